//! Network namespaces without names: they live as long as the process, so that nothing is left
//! behind whatever happens to it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// One network namespace and the name by which tests speak of it.
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Makes a namespace with its loopback up and duplicate address detection off (it would only
    /// make every test a second longer).
    ///
    /// # Errors
    /// Without the right to make namespaces (root is needed).
    pub fn new(name: &str) -> Result<Self> {
        let file = on_thread(|| {
            // SAFETY: no pointers; moves only the calling thread.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                bail!("unshare(CLONE_NEWNET): {} (root is needed)", std::io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net").context("opening the new namespace")
        })?;
        let ns = Self { name: name.to_owned(), file };
        ns.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        ns.sysctl("net/ipv6/conf/default/router_solicitations", "0")?;
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path that `ip ... netns PATH` understands while this process lives.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` on a thread inside the namespace; what it opens or spawns belongs there.
    ///
    /// # Errors
    /// Those of `work`, or when the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let fd = self.file.as_raw_fd();
        on_thread(move || {
            // SAFETY: the file is open for as long as `self` is borrowed; moves only this thread.
            if unsafe { libc::setns(fd, libc::CLONE_NEWNET) } != 0 {
                bail!("setns: {}", std::io::Error::last_os_error());
            }
            work()
        })
        .with_context(|| format!("in namespace {}", self.name))
    }

    /// Writes `value` to `/proc/sys/PATH`.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.enter(|| {
            std::fs::write(format!("/proc/sys/{path}"), value)
                .with_context(|| format!("writing {value} to /proc/sys/{path}"))
        })
    }

    /// Runs `ip -batch` over the lines of `commands` (without the word `ip`).
    ///
    /// # Errors
    /// With ip's own words when one of the lines fails.
    pub fn ip(&self, commands: &str) -> Result<()> {
        let commands: String = commands.lines().map(|l| format!("{}\n", l.trim())).collect();
        self.pipe("ip", &["-batch", "-"], &commands).map(drop)
    }

    /// # Errors
    /// With nft's own words.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        self.pipe("nft", &["-f", "-"], ruleset).map(drop)
    }

    /// Runs a program to its end and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be run or fails, with its standard error.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        self.pipe(program, args, "")
    }

    /// As [`Netns::run`], with `input` on its standard input.
    ///
    /// # Errors
    /// As [`Netns::run`].
    pub fn pipe(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let output = self.output(program, args, input)?;
        if !output.status.success() {
            bail!(
                "{program} {}: {}: {}{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim(),
                if input.len() < 2000 { format!("\n{input}") } else { String::new() },
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`Netns::pipe`], whatever the exit status.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn output(&self, program: &str, args: &[&str], input: &str) -> Result<Output> {
        self.enter(|| output(program, args, input))
    }

    /// Starts a program that goes on running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<std::process::Child> {
        // Command is not Send in general, but a mutable borrow of it is.
        self.enter(|| command.spawn().context("starting a program"))
    }
}

/// Runs a program to its end where the calling thread is, with `input` on its standard input.
///
/// # Errors
/// When it cannot be run.
pub fn output(program: &str, args: &[&str], input: &str) -> Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let input = input.as_bytes().to_vec();
    let feeder = std::thread::spawn(move || {
        // A program that does not read its input is no error of ours.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().with_context(|| format!("waiting for {program}"))?;
    let _ = feeder.join();
    Ok(output)
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(_) => Err(anyhow!("a thread of the home panicked")),
    })
}
