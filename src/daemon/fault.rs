//! Kill points, for tests: the daemon ends itself with SIGKILL before or after an effect. Only in
//! builds with debug assertions; `cross/build` refuses a release that has them.
//!
//! `VPND_FAULT` names a file. While it is there it holds how many points are still passed; the one
//! after them is where the daemon dies, and the file is gone. FILE.log gets the name of every point.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use crate::machine::{Effect, kill_point};

pub(super) fn at(side: &str, effect: &Effect) {
    let Some(file) = std::env::var_os("VPND_FAULT").map(PathBuf::from) else { return };
    if let Ok(mut log) = fs::File::options().create(true).append(true).open(file.with_extension("log")) {
        let _ = writeln!(log, "{side} {}", kill_point(effect));
    }
    let Ok(text) = fs::read_to_string(&file) else { return };
    match text.trim().parse::<u32>() {
        Ok(0) => {
            let _ = fs::remove_file(&file);
            // SAFETY: kill(2) takes two numbers and touches no memory of ours.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        Ok(left) => drop(fs::write(&file, (left - 1).to_string())),
        Err(_) => {}
    }
}
