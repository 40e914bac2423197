//! The multi-call binary: picks the verb, nothing else.

#[cfg(all(target_arch = "mips", not(panic = "unwind")))]
mod no_unwind;
#[cfg(any(test, all(target_env = "musl", not(panic = "unwind"))))]
mod small_libc;

fn main() -> std::process::ExitCode {
    vpnd::cli::run(std::env::args_os())
}
