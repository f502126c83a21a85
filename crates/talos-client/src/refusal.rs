//! What a node says against a config, as separate findings.
//!
//! Talos 1.11 to 1.14 nests lists (`hashicorp/go-multierror`, no deeper indentation for an inner list) and names the document
//! of each finding (`pkg/machinery/config/container/container.go`, `docID`) or its line (`configloader/internal/decoder`).

/// Something that a node rejects in a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFinding {
    /// The document, such as `v1alpha1.Config` or `UserVolumeConfig/data`, where the node names one.
    pub document: Option<String>,
    /// The line of the config as it was sent, where the node names one.
    pub line: Option<u32>,
    pub text: String,
}

/// A rejected config: what the node did with it, and each finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// Such as `configuration validation failed`; empty where the node says nothing before its findings.
    pub summary: String,
    /// The gRPC code, such as `InvalidArgument`; empty where the text has none.
    pub status: String,
    pub findings: Vec<ConfigFinding>,
}

const LIST: &str = " occurred:";
const ITEM: &str = "\n\t* ";
const DECODING: &str = "error decoding document ";
const DUPLICATE: &str = "duplicate document ";

impl ConfigRefusal {
    /// Reads the reason of a failed call: the message of the node, and the gRPC code in parentheses. A message without a list
    /// is one finding.
    pub fn parse(reason: &str) -> Self {
        let (message, status) = split_status(reason);
        let mut items = message.split(ITEM).map(str::trim_end);
        let first = items.next().unwrap_or_default();
        let Some(ListHeader { before, count }) = ListHeader::find(first) else {
            let (summary, finding) = split_summary(message.trim());
            return Self {
                summary: summary.to_owned(),
                status: status.to_owned(),
                findings: vec![ConfigFinding::read(None, finding)],
            };
        };
        // The lists that are open, the innermost last. A node that counts wrongly ends none too early.
        let mut open = vec![OpenList { document: None, left: count }];
        let mut findings = Vec::new();
        for item in items {
            while open.len() > 1 && open.last().is_some_and(|list| list.left == 0) {
                open.pop();
            }
            let document = open.last().and_then(|list| list.document.clone());
            if let Some(list) = open.last_mut() {
                list.left = list.left.saturating_sub(1);
            }
            match ListHeader::find(item) {
                Some(ListHeader { before, count }) => {
                    let own = (!before.is_empty()).then(|| before.to_owned());
                    open.push(OpenList { document: own.or(document), left: count });
                }
                None => findings.push(ConfigFinding::read(document, item)),
            }
        }
        Self { summary: before.to_owned(), status: status.to_owned(), findings }
    }
}

/// The beginning of a list: what is before it, and how many items it has.
struct ListHeader<'t> {
    before: &'t str,
    count: usize,
}

impl<'t> ListHeader<'t> {
    /// Reads `v1alpha1.Config: 4 errors occurred:`.
    fn find(text: &'t str) -> Option<Self> {
        let text = text.strip_suffix(LIST)?;
        let text = text.strip_suffix("errors").or_else(|| text.strip_suffix("error"))?.trim_end();
        let (before, count) = text.rsplit_once(' ').unwrap_or(("", text));
        Some(Self { before: before.trim_end_matches(':').trim_end(), count: count.parse().ok()? })
    }
}

struct OpenList {
    document: Option<String>,
    left: usize,
}

/// Splits `message (InvalidArgument)`.
fn split_status(reason: &str) -> (&str, &str) {
    let is_code = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphabetic());
    let split = reason.strip_suffix(')').and_then(|text| text.rsplit_once(" ("));
    split.filter(|(_, status)| is_code(status)).unwrap_or((reason, ""))
}

/// What a message says before its only finding: `configuration validation failed: …`, `failed to parse config: …`.
fn split_summary(message: &str) -> (&str, &str) {
    let is_summary = |text: &str| text.ends_with(" failed") || text.starts_with("failed to ");
    match message.split_once(": ") {
        Some((summary, finding)) if is_summary(summary) => (summary, finding),
        _ => ("", message),
    }
}

impl ConfigFinding {
    /// Reads one item of a list in a document, or of one that names its own.
    fn read(document: Option<String>, text: &str) -> Self {
        if let Some(rest) = text.strip_prefix(DECODING)
            && let Some((id, rest)) = rest.split_once(" (line ")
            && let Some((line, cause)) = rest.split_once("): ")
        {
            return Self { document: Some(document_name(id)), line: line.parse().ok(), text: cause.to_owned() };
        }
        if let Some(rest) = text.strip_prefix(DUPLICATE)
            && let Some((id, _)) = rest.split_once(" is not allowed")
        {
            let line = text.rsplit_once("(line ").and_then(|(_, line)| line.trim_end_matches(')').parse().ok());
            return Self { document: Some(document_name(id)), line, text: "the document is there twice".to_owned() };
        }
        match text.split_once(": ") {
            Some((id, cause)) if document.is_none() && is_document(id) => {
                Self { document: Some(id.to_owned()), line: None, text: cause.to_owned() }
            }
            _ => Self { document, line: None, text: text.to_owned() },
        }
    }
}

/// `v1alpha1/KubeSpanConfig/` is `KubeSpanConfig`, `v1alpha1/UserVolumeConfig/data` is `UserVolumeConfig/data`.
fn document_name(id: &str) -> String {
    let (_, name) = id.split_once('/').unwrap_or(("", id));
    name.trim_end_matches('/').to_owned()
}

/// Whether a text before a colon is a document: `v1alpha1.Config`, or a kind with or without a name.
fn is_document(text: &str) -> bool {
    let kind = text.split('/').next().unwrap_or_default();
    let is_kind = kind.ends_with("Config") && kind.starts_with(|c: char| c.is_ascii_uppercase());
    text == "v1alpha1.Config" || (is_kind && !text.contains(char::is_whitespace))
}

impl std::fmt::Display for ConfigFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(document) = &self.document {
            f.write_str(document)?;
        }
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        if self.document.is_some() || self.line.is_some() {
            f.write_str(": ")?;
        }
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(message: &str) -> Vec<String> {
        ConfigRefusal::parse(message).findings.iter().map(ToString::to_string).collect()
    }

    /// Of Talos 1.12.4.
    const NESTED: &str = "configuration validation failed: 2 errors occurred:\n\t* v1alpha1.Config: 2 errors occurred:\n\t* \
                          machine.install.disk is required\n\t* invalid machine node ip subnet \"x\"\n\n\n\t* \
                          UserVolumeConfig/data: 1 error occurred:\n\t* min size is required\n\n\n\n";

    #[test]
    fn nested_lists_are_findings_with_their_document() {
        let refusal = ConfigRefusal::parse(NESTED);
        assert_eq!((refusal.summary.as_str(), refusal.status.as_str()), ("configuration validation failed", ""));
        let with_status = ConfigRefusal::parse(&format!("{NESTED} (InvalidArgument)"));
        assert_eq!((with_status.status.as_str(), with_status.findings), ("InvalidArgument", refusal.findings));
        let expected = [
            "v1alpha1.Config: machine.install.disk is required",
            "v1alpha1.Config: invalid machine node ip subnet \"x\"",
            "UserVolumeConfig/data: min size is required",
        ];
        assert_eq!(shown(NESTED), expected);
        // A configured node has no summary; a document with one mistake has no list of its own.
        let flat = "2 errors occurred:\n\t* KubeSpanConfig: a: b\n\t* c\n\td\n\n";
        assert_eq!(shown(flat), ["KubeSpanConfig: a: b", "c\n\td"]);
        assert_eq!(ConfigRefusal::parse(flat).summary, "");
    }

    #[test]
    fn a_document_that_cannot_be_decoded_has_its_line() {
        let unknown = "failed to parse config: error decoding document v1alpha1/KubeSpanConfig/ (line 121): unknown keys \
                       found during decoding:\nenable: true\n";
        let refusal = ConfigRefusal::parse(unknown);
        assert_eq!(refusal.summary, "failed to parse config");
        let finding = &refusal.findings[0];
        assert_eq!((finding.document.as_deref(), finding.line), (Some("KubeSpanConfig"), Some(121)));
        assert_eq!(finding.text, "unknown keys found during decoding:\nenable: true");
        let twice = "duplicate document v1alpha1/UserVolumeConfig/data is not allowed (line 40)";
        assert_eq!(shown(twice), ["UserVolumeConfig/data (line 40): the document is there twice"]);
    }

    #[test]
    fn a_message_without_a_list_is_one_finding() {
        let message = "version \"1.36.1\" is too new to be used with Talos 1.12.4";
        assert_eq!(shown(message), [message]);
        assert_eq!(shown("configuration validation failed: machine.install.wipe: no"), ["machine.install.wipe: no"]);
        assert_eq!(shown(""), [""]);
    }

    proptest! {
        /// No item of a list is lost, whatever the node counts.
        #[test]
        fn every_item_is_a_finding(items in prop::collection::vec("[a-z ]{1,9}[a-z]", 1..9), count in 0_usize..20) {
            let list: String = items.iter().map(|item| format!("\n\t* {item}")).collect();
            let refusal = ConfigRefusal::parse(&format!("{count} errors occurred:{list}\n\n"));
            let texts: Vec<String> = refusal.findings.iter().map(|finding| finding.text.clone()).collect();
            prop_assert_eq!(texts, items);
        }
    }
}
