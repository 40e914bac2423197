//! A relay's name, from what a wg-quick file has in its place.

use crate::config::names::RelayName;
use crate::sorted::Set;

/// `se-got-wg-001`, `Name = se-got-wg-001`, `SE#12`; a sentence is no name.
pub fn name_from_comment(comment: &str) -> Option<String> {
    let text = match comment.split_once(['=', ':']) {
        Some((word, rest)) if word.trim().eq_ignore_ascii_case("name") => rest.trim(),
        _ => comment.trim_start_matches('#').trim(),
    };
    if text.is_empty() || text.contains(char::is_whitespace) || text.contains('=') {
        return None;
    }
    Some(sanitised(text)).filter(|name| !name.is_empty())
}

pub fn name_from_file(file_name: &str) -> String {
    let base = file_name.rsplit('/').next().unwrap_or(file_name);
    let lower = base.to_ascii_lowercase();
    let stem = if lower.ends_with(".conf") { base.get(..base.len() - 5) } else { Some(base) };
    let name = sanitised(stem.unwrap_or(base));
    if name.is_empty() { "relay".to_owned() } else { name }
}

/// Letters, digits, `.`, `_`, `-`; everything else becomes a single `-`. At most 56 bytes, so that
/// a number fits behind it.
fn sanitised(text: &str) -> String {
    let mut out = String::new();
    for char in text.chars().take(200) {
        if char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-') {
            out.push(char);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    let trimmed = out.trim_matches(['-', '.']);
    trimmed.get(..56).unwrap_or(trimmed).to_owned()
}

pub fn unique(name: &str, taken: &mut Set<RelayName>) -> Option<RelayName> {
    (1..=100_000).map(|count| if count == 1 { name.to_owned() } else { format!("{name}-{count}") }).find_map(
        |candidate| {
            let candidate: RelayName = candidate.parse().ok()?;
            taken.add(candidate.clone()).then_some(candidate)
        },
    )
}
