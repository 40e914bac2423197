//! One run of `nft`: text in, text out, within a time limit, whatever the program does.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;

/// A listing of our table is far below this; more is garbage.
const MOST: u64 = 16 << 20;

pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Runs the program to its end; `started` is told its process's number.
///
/// # Errors
/// [`Error::Start`] and [`Error::TimedOut`]; exit codes are the caller's to judge.
pub fn run(
    program: &Path,
    args: &[&str],
    input: String,
    limit: Duration,
    what: &'static str,
    started: impl FnOnce(u32),
) -> Result<Output, Error> {
    let failed = |source| Error::Start { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that whatever it started can be killed with it.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    started(child.id());
    let ends = Instant::now() + limit;
    let stdout = child.stdout.take().map(read);
    let stderr = child.stderr.take().map(read);
    if let Some(mut stdin) = child.stdin.take() {
        // A thread: a program that reads nothing must not block us. It ends with the program; a
        // program that ends early is judged by its exit code.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let outcome = wait(&mut child, ends).map_err(failed)?;
    let Some(status) = outcome else { return Err(Error::TimedOut { what, limit }) };
    let collected = |pipe: Option<Receiver<Vec<u8>>>| match pipe {
        // Somebody else may hold the pipe open: no longer than the limit.
        Some(pipe) => {
            let left = ends.saturating_duration_since(Instant::now());
            pipe.recv_timeout(left).map_err(|_| Error::TimedOut { what, limit })
        }
        None => Ok(Vec::new()),
    };
    let stdout = collected(stdout)?;
    let stderr = String::from_utf8_lossy(&collected(stderr)?).trim().to_owned();
    Ok(Output { status, stdout, stderr })
}

fn read(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.take(MOST).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// None: it took too long and was killed.
fn wait(child: &mut Child, ends: Instant) -> std::io::Result<Option<ExitStatus>> {
    let mut nap = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= ends {
            kill(child);
            return Ok(None);
        }
        thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(5));
    }
}

fn kill(child: &mut Child) {
    if let Ok(group) = libc::pid_t::try_from(child.id()) {
        // SAFETY: kill(2) takes two numbers and touches no memory. The group is the child's own,
        // and as the child has not been waited for, its number cannot be another's yet.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    let _ = child.kill();
    let _ = child.wait();
}
