//! The verbs.

/// Runs the verb that `args` names (argv[0] included) and returns the process's exit code.
#[must_use]
pub fn run(args: impl Iterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    let _ = args;
    std::process::ExitCode::FAILURE
}
