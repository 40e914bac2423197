//! The multi-call binary: picks the verb, nothing else.

fn main() -> std::process::ExitCode {
    vpnd::cli::run(std::env::args_os())
}
