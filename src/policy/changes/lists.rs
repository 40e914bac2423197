//! Lists in sentences: never longer than a person reads.

/// Items or sentences of one kind that are shown.
const SHOWN: usize = 8;

/// "a, b and 3 more".
pub fn listed(items: &[String]) -> String {
    let shown = items.get(..SHOWN).unwrap_or(items).join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

pub fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Those that are not among the others, in their order.
pub fn only_in<'a, T: PartialEq>(these: &'a [T], others: &[T]) -> Vec<&'a T> {
    these.iter().filter(|one| !others.contains(one)).collect()
}

/// A sentence for each; of many, how many more there are of this `kind`.
pub fn many<T>(out: &mut Vec<String>, items: Vec<T>, kind: &str, sentence: impl Fn(&T) -> String) {
    out.extend(items.iter().take(SHOWN).map(sentence));
    more(out, items.len(), kind);
}

/// Cuts what was added after `before` to what is shown.
pub fn shorten(out: &mut Vec<String>, before: usize, kind: &str) {
    let count = out.len().saturating_sub(before);
    out.truncate(before + SHOWN);
    more(out, count, kind);
}

fn more(out: &mut Vec<String>, count: usize, kind: &str) {
    if count > SHOWN {
        out.push(format!("and {} more {kind}, in the same way", count - SHOWN));
    }
}
