//! The configuration file of a router of the lab: the text as given, with what the lab needs added.

use std::path::Path;

/// Adds the `admin` and `observe` sections that the text lacks: a socket that the lab finds, and no
/// metrics port, which hosts that share a namespace would fight for.
#[must_use]
pub fn complete(text: &str, socket: &Path) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !has_section(&text, "admin") {
        text.push_str(&format!("admin:\n  socket: \"{}\"\n", socket.display()));
    }
    if !has_section(&text, "observe") {
        text.push_str("observe:\n  metrics: off\n");
    }
    text
}

/// Whether a key stands at the margin.
fn has_section(text: &str, key: &str) -> bool {
    text.lines().filter_map(|line| line.strip_prefix(key)).any(|rest| rest.trim_start().starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_sections_are_added() {
        let socket = Path::new("/w/edgeproxy.sock");
        let both = "generation: 1\nadmin:\n  socket: \"/w/edgeproxy.sock\"\nobserve:\n  metrics: off\n";
        assert_eq!(complete("generation: 1", socket), both);
        assert_eq!(complete(both, socket), both);
        let own = "observe: { log: { level: debug } }\npop: { id: a, admin: no }\n";
        assert_eq!(complete(own, socket), format!("{own}admin:\n  socket: \"/w/edgeproxy.sock\"\n"));
    }
}
