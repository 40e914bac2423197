//! A router's own files: a mount namespace with a file system in RAM, in which its programs run
//! chrooted. Nothing of it is seen outside, and nothing is left of it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::ns::{Netns, output};
use crate::town::Said;

pub struct Root {
    mounts: File,
    at: PathBuf,
}

/// What OpenWrt's programs find in their environment.
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

impl Root {
    /// Empty but for /proc, and /sys with the devices of `ns`. `at` is where it is mounted.
    ///
    /// # Errors
    /// When the kernel refuses a mount.
    pub fn new(ns: &Netns, at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        let mounts = ns.enter(|| {
            // SAFETY: no pointers; moves only the calling thread.
            done(unsafe { libc::unshare(libc::CLONE_NEWNS) }).context("unshare(CLONE_NEWNS)")?;
            mount("none", Path::new("/"), "none", libc::MS_REC | libc::MS_PRIVATE)?;
            mount("tmpfs", at, "tmpfs", 0)?;
            for (kind, folder) in [("proc", "proc"), ("sysfs", "sys")] {
                let folder = at.join(folder);
                fs::create_dir(&folder)?;
                mount(kind, &folder, kind, 0)?;
            }
            File::open("/proc/thread-self/ns/mnt").context("opening the mount namespace")
        })?;
        Ok(Self { mounts, at: at.to_owned() })
    }

    /// Runs `work` where the router's files lie at [`Root::at`], beside everything else.
    ///
    /// # Errors
    /// Those of `work`, or when the namespaces cannot be entered.
    pub fn beside<T: Send>(&self, ns: &Netns, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        ns.enter(|| {
            // SAFETY: no pointers; who shares its working folder cannot change its mounts.
            done(unsafe { libc::unshare(libc::CLONE_FS) }).context("unshare(CLONE_FS)")?;
            // SAFETY: the file is open for as long as `self` is borrowed.
            done(unsafe { libc::setns(self.mounts.as_raw_fd(), libc::CLONE_NEWNS) }).context("setns")?;
            work()
        })
    }

    /// Runs `work` where there is nothing but the router's files.
    ///
    /// # Errors
    /// As [`Root::beside`].
    pub fn inside<T: Send>(&self, ns: &Netns, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.beside(ns, || {
            std::os::unix::fs::chroot(&self.at)?;
            std::env::set_current_dir("/")?;
            work()
        })
    }

    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Runs a program of the router's.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn say(&self, ns: &Netns, words: &[&str]) -> Result<Said> {
        let words: Vec<&str> = ["-i", PATH].iter().chain(words).copied().collect();
        self.inside(ns, || Ok(Said::from(&output("/usr/bin/env", &words, "")?)))
    }

    /// # Errors
    /// When there is no such text.
    pub fn read(&self, ns: &Netns, path: &str) -> Result<String> {
        self.inside(ns, || fs::read_to_string(path).with_context(|| path.to_owned()))
    }

    /// As at a power cut: every process that lives in these files ends at once.
    ///
    /// # Errors
    /// When one does not.
    pub fn power_off(&self) -> Result<()> {
        let own = self.mounts.metadata()?.ino();
        for _ in 0..200 {
            let mut living = 0;
            for entry in fs::read_dir("/proc")?.flatten() {
                let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
                // Gone meanwhile, or a kernel thread. A zombie has no namespace any more.
                let Ok(namespace) = fs::metadata(entry.path().join("ns/mnt")) else { continue };
                if namespace.ino() == own {
                    living += 1;
                    // SAFETY: plain call; whoever is in this namespace was started in it.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
            }
            if living == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("processes of the router do not end")
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = self.power_off();
    }
}

fn done(status: i32) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn mount(what: &str, at: &Path, kind: &str, flags: libc::c_ulong) -> Result<()> {
    let text = |text: &str| CString::new(text);
    let place = at.to_str().context("a folder's name")?;
    let (from, to, name) = (text(what)?, text(place)?, text(kind)?);
    // SAFETY: three terminated strings, and no data.
    let status = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), name.as_ptr(), flags, ptr::null()) };
    done(status).with_context(|| format!("mounting {kind} at {place}"))?;
    ensure!(at.is_dir(), "{place} is no folder");
    Ok(())
}
