//! Reads hooks.

use super::super::model::HookEvent;
use super::super::state::{HookDraft, Text};
use super::Reader;
use yaml::{Fields, Node};

const EVENTS: [(&str, HookEvent); 7] = [
    ("prepare", HookEvent::Prepare),
    ("preapply", HookEvent::Preapply),
    ("presync", HookEvent::Presync),
    ("preuninstall", HookEvent::Preuninstall),
    ("postuninstall", HookEvent::Postuninstall),
    ("postsync", HookEvent::Postsync),
    ("cleanup", HookEvent::Cleanup),
];

/// helmfile's name of an event, which templates see as `.Event.Name`.
pub(in super::super) fn name(event: HookEvent) -> &'static str {
    EVENTS.iter().find(|(_, known)| *known == event).map_or("", |(name, _)| name)
}

impl Reader<'_> {
    pub(super) fn hook(&mut self, node: &Node, release: &str) -> Option<HookDraft> {
        let (origin, what) = (self.origin, format!("a hook of {release}"));
        let mut fields = Fields::from_node(origin, node, what.clone(), self.found);
        fields.string("name", self.found);
        let events = self.events(&mut fields, &what);
        let command = self.text(&mut fields, "command", &what);
        let args = self.texts(&mut fields, "args", &what);
        let show_logs = self.switch(&mut fields, "showlogs", &what).unwrap_or(false);
        let apply = fields.get("kubectlApply");
        fields.finish(self.found);
        let at = self.at(node);
        let (command, args) = match (command, apply) {
            (Some(command), None) => (command, args),
            (None, Some(apply)) => self.kubectl_apply(apply, &what)?,
            (Some(_), Some(_)) => {
                self.found.error(at, format!("{what} has both `command` and `kubectlApply`"));
                return None;
            }
            (None, None) => {
                self.found.error(at, format!("{what} has no `command`"));
                return None;
            }
        };
        Some(HookDraft { at, events, command, args, show_logs })
    }

    fn events(&mut self, fields: &mut Fields<'_>, what: &str) -> Vec<HookEvent> {
        let (mut events, written) = (vec![], self.texts(fields, "events", what));
        if written.is_empty() {
            self.found.error(fields.location(), format!("{what} has no `events` and would never run"));
        }
        for text in written {
            match EVENTS.iter().find(|(name, _)| *name == text.raw) {
                Some((_, event)) => events.push(*event),
                None => {
                    let known = EVENTS.map(|(name, _)| name).join("`, `");
                    self.found
                        .error(text.at, format!("unknown event `{}` of {what}: expected one of `{known}`", text.raw));
                }
            }
        }
        events
    }

    /// `kubectlApply: {filename: …}` or `{kustomize: …}` as the command that helmfile runs.
    fn kubectl_apply(&mut self, node: &Node, what: &str) -> Option<(Text, Vec<Text>)> {
        let origin = self.origin;
        let mut fields = Fields::from_node(origin, node, format!("`kubectlApply` of {what}"), self.found);
        let file = self.text(&mut fields, "filename", what);
        let kustomization = self.text(&mut fields, "kustomize", what);
        fields.finish(self.found);
        let at = self.at(node);
        let word = |text: &str| Text { raw: text.to_owned(), at: at.clone(), indent: 0 };
        match (file, kustomization) {
            (Some(file), None) => Some((word("kubectl"), vec![word("apply"), word("-f"), file])),
            (None, Some(folder)) => Some((word("kubectl"), vec![word("apply"), word("-k"), folder])),
            _ => {
                self.found.error(at, format!("`kubectlApply` of {what} needs either `filename` or `kustomize`"));
                None
            }
        }
    }
}
