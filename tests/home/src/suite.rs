//! Running tests: names, times, verdicts.

use std::time::Instant;

use anyhow::Result;

/// What a test gets to know.
pub type Work = Box<dyn FnOnce() -> Result<String>>;

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
    let (mut passed, mut failed) = (0, 0);
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
                failed += 1;
                println!("FAIL {:6.2} s  {}: {error:#}", seconds, test.name);
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    failed == 0
}
