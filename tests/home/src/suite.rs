//! Running tests: names, times, verdicts.

use std::time::Instant;

use anyhow::Result;

/// What a test gets to know.
pub type Work = Box<dyn FnOnce() -> Result<String>>;

/// What must come and has not come in time: on a machine with more to do than it can, that may be
/// the machine. Never said of what must not happen.
#[derive(Debug)]
pub struct Late(pub String);

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Late {}

pub struct Test {
    pub name: String,
    pub work: Work,
}

impl Test {
    /// `work` returns what it saw, in a few words.
    pub fn new(name: impl Into<String>, work: impl FnOnce() -> Result<String> + 'static) -> Self {
        Self { name: name.into(), work: Box::new(work) }
    }
}

/// Runs the tests and prints a line for each; true when all passed.
#[must_use]
pub fn run(tests: Vec<Test>) -> bool {
    let mut passed = 0;
    let mut failed = Vec::new();
    for test in tests {
        let start = Instant::now();
        let result = (test.work)();
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(seen) => {
                passed += 1;
                println!(
                    "ok   {:6.2} s  {}{}",
                    seconds,
                    test.name,
                    if seen.is_empty() { seen } else { format!(": {seen}") }
                );
            }
            Err(error) => {
                let error = format!("{error:#}");
                println!("FAIL {:6.2} s  {}: {error}", seconds, test.name);
                failed.push(format!("{}: {}", test.name, error.lines().next().unwrap_or_default()));
            }
        }
    }
    // Once more, where a reader of the last lines finds them.
    failed.iter().for_each(|line| println!("failed: {line}"));
    println!("{passed} passed, {} failed", failed.len());
    failed.is_empty()
}
