//! What was not as the barrier wants it, for people.

use std::fmt;

/// One thing that was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    pub part: Part,
    /// "the IPv4 rule 199: unreachable was missing".
    pub text: String,
}

/// The kinds of things that the kernel tells apart when somebody changes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Rule,
    Route,
    Setting,
}

impl Mended {
    pub(super) fn missing(part: Part, what: &impl fmt::Display) -> Self {
        Self { part, text: format!("{what} was missing") }
    }

    pub(super) fn foreign(part: Part, what: &impl fmt::Display) -> Self {
        Self { part, text: format!("{what} was somebody else's") }
    }
}
