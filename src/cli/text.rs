//! Text for terminals.

use std::io::Write;

/// Without what a terminal would obey: control characters become '?', but for line breaks and
/// tabs (rulesets are indented with them). What is shown comes partly from configuration and from
/// the daemon.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '?' } else { c }).collect()
}

/// To stdout; a closed pipe (`vpnd relays | head`) is no error.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", clean(text)).and_then(|()| out.flush());
}

/// Seconds as a person says them.
#[must_use]
pub fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Bytes as a person reads them.
#[must_use]
pub fn bytes(count: u64) -> String {
    let mut tenths = count.saturating_mul(10);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if tenths < 10_240 {
            return if unit == "B" {
                format!("{count} B")
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            };
        }
        tenths /= 1024;
    }
    format!("{}.{} TiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_given_orders() {
        assert_eq!(clean("a\x1b[2Jb\u{9b}c\r\nd"), "a?[2Jb?c?\nd");
    }

    #[test]
    fn a_printed_ruleset_can_be_loaded() {
        assert_eq!(clean("table inet x {\n\tchain c {\n"), "table inet x {\n\tchain c {\n");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 119, 120, 7200, 200_000].map(span), ["0 s", "119 s", "2 min", "2 h", "2 days"]);
        assert_eq!(
            [0, 1023, 1024, 1_572_864, 5 << 40].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 TiB"]
        );
    }
}
