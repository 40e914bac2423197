//! apk's version grammar: `digits(.digits)*[letter](_suffix[digits])*[~hash][-rdigits]`
//! (apk-tools, `src/version.c`, `apk_version_validate`). opkg takes anything.

/// Suffixes that apk knows, before a release and after it.
const SUFFIXES: [&str; 9] = ["alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p"];

pub fn is_valid(version: &str) -> bool {
    parse(version).is_some_and(str::is_empty)
}

/// What is left of the version behind all its parts; None: a part is malformed.
fn parse(version: &str) -> Option<&str> {
    let mut rest = digits(version)?;
    while let Some(next) = rest.strip_prefix('.') {
        rest = digits(next)?;
    }
    rest = rest.strip_prefix(|c: char| c.is_ascii_lowercase()).unwrap_or(rest);
    while let Some(next) = rest.strip_prefix('_') {
        let (word, next) = split(next, |c| c.is_ascii_lowercase());
        if !SUFFIXES.contains(&word) {
            return None;
        }
        rest = split(next, |c| c.is_ascii_digit()).1;
    }
    if let Some(next) = rest.strip_prefix('~') {
        let (hash, next) = split(next, |c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        if hash.is_empty() {
            return None;
        }
        rest = next;
    }
    match rest.strip_prefix("-r") {
        Some(next) => digits(next),
        None => Some(rest),
    }
}

/// What follows one digit or more.
fn digits(text: &str) -> Option<&str> {
    let (number, rest) = split(text, |c| c.is_ascii_digit());
    (!number.is_empty()).then_some(rest)
}

fn split(text: &str, is: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn what_apk_takes_is_valid() {
        for version in
            ["0.1.0-r1", "1", "1.2", "1.2b", "1.2_rc1", "1_pre", "1_git20261122_p1-r0", "1.0~1234abc-r12"]
        {
            assert!(is_valid(version), "{version}");
        }
    }

    #[test]
    fn what_apk_refuses_is_not() {
        for version in [
            "",
            "r1",
            "v1.0",
            "1.",
            ".1",
            "1..2",
            "1.0-1",
            "1.0-r",
            "1.0-r1-r2",
            "1.0bb",
            "1.0B",
            "1.0b.1",
            "1.0_nightly",
            "1.0_",
            "1.0~",
            "1.0~xyz",
            "1.0-r1~ab",
            "1.0 ",
            "1.0-rc.1",
            "1.0+5",
            "1.0_rc1b",
        ] {
            assert!(!is_valid(version), "{version}");
        }
    }
}
