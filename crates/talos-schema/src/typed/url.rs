//! URLs as parsed by Go's `net/url`, which accepts more than other parsers.

/// The parts of a URL that validation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url<'t> {
    /// Empty when absent.
    pub scheme: &'t str,
    /// Without brackets and port.
    pub host: &'t str,
    pub port: &'t str,
    pub path: &'t str,
}

impl<'t> Url<'t> {
    pub fn parse(text: &'t str) -> Option<Self> {
        if text.contains(|c: char| c.is_ascii_control()) || text.starts_with(':') || broken_escape(text) {
            return None;
        }
        let body = text.split(['#', '?']).next().unwrap_or_default();
        let (scheme, rest) = scheme(body);
        let Some(rest) = rest.strip_prefix("//") else {
            let first = rest.split('/').next().unwrap_or_default();
            // Go rejects `host:port` without a scheme.
            return (!scheme.is_empty() || rest.starts_with('/') || !first.contains(':')).then_some(Self {
                scheme,
                host: "",
                port: "",
                path: rest,
            });
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = host_and_port(authority)?;
        Some(Self { scheme, host, port, path })
    }
}

fn scheme(text: &str) -> (&str, &str) {
    let Some((scheme, rest)) = text.split_once(':') else { return ("", text) };
    let starts = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let valid = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if starts && valid { (scheme, rest) } else { ("", text) }
}

fn host_and_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { "" } else { after.strip_prefix(':')? })
        }
        None => authority.rsplit_once(':').unwrap_or((authority, "")),
    };
    let digits = port.chars().all(|digit| digit.is_ascii_digit());
    let clean = !host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']);
    (digits && clean).then_some((host, port))
}

fn broken_escape(text: &str) -> bool {
    text.split('%').skip(1).any(|after| !after.get(..2).is_some_and(|hex| hex.chars().all(|c| c.is_ascii_hexdigit())))
}
