use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::LanDevice;

struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vpnd-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }
    fn state(&self) -> StateDir {
        StateDir::new(self.0.join("state"))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wanted(relay: &str) -> Stored {
    Stored { connect: false, relay: Some(relay.parse().unwrap()), lockdown: None, latched: false }
}

#[test]
fn what_was_stored_is_read_back() {
    let temp = Temp::new("roundtrip");
    let state = temp.state();
    assert_eq!(state.wanted(), None);
    assert!(state.read_wanted().1.is_none());
    state.store_wanted(&wanted("a")).unwrap();
    state.store_wanted(&wanted("b")).unwrap();
    assert_eq!(state.wanted(), Some(wanted("b")));
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.file("wanted.json")), 0o600);
    assert_eq!(mode(state.path()), 0o700);
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1, "no temporary stays");
}

/// A word from before that opens must not outlive one that closes and could not be written: the
/// next start would open an armed router.
#[test]
fn a_failed_write_never_leaves_a_word_that_opens() {
    let temp = Temp::new("failed-write");
    let state = temp.state();
    let closes = Stored { connect: true, ..wanted("b") };
    state.store_wanted(&wanted("a")).unwrap();
    // What cannot be created stands for a full flash.
    let blocker = temporary_name(&state.file("wanted.json"));
    fs::create_dir(&blocker).unwrap();
    state.store_wanted(&wanted("b")).unwrap_err();
    assert_eq!(state.wanted(), Some(wanted("a")), "both open: the former stays");
    state.store_wanted(&closes).unwrap_err();
    assert_eq!(state.wanted(), None, "missing counts as closed beside the marker");
    fs::remove_dir(&blocker).unwrap();
    state.store_wanted(&closes).unwrap();
    fs::create_dir(&blocker).unwrap();
    state.store_wanted(&Stored { latched: true, ..wanted("c") }).unwrap_err();
    assert_eq!(state.wanted(), Some(closes), "both close: the former stays");
}

#[test]
fn unknown_is_closed() {
    let temp = Temp::new("closed");
    let state = temp.state();
    fs::create_dir_all(state.path()).unwrap();
    for bytes in [
        &b""[..],
        b"\0\0\0\0",
        b"{",
        b"null",
        b"\xff\xfe",
        br#"{"connect":"no"}"#,
        br#"{"connect":false,"relay":"a b","lockdown":null}"#,
    ] {
        fs::write(state.file("wanted.json"), bytes).unwrap();
        let (found, trouble) = state.read_wanted();
        assert!(found.is_some_and(|f| f.connect), "{bytes:?}");
        assert!(matches!(trouble, Some(Error::Damaged { .. })), "{bytes:?}");
    }
    fs::remove_file(state.file("wanted.json")).unwrap();
    fs::create_dir(state.file("wanted.json")).unwrap();
    let (found, trouble) = state.read_wanted();
    assert!(found.is_some_and(|f| f.connect));
    assert!(trouble.unwrap().to_string().contains("wanted.json: cannot be read"));
}

#[test]
fn the_marker_is_there_unless_it_is_surely_not() {
    let temp = Temp::new("marker");
    let state = temp.state();
    assert!(!state.armed());
    state.disarm().unwrap();
    state.arm().unwrap();
    state.arm().unwrap();
    assert!(state.armed());
    state.disarm().unwrap();
    assert!(!state.armed());
    std::os::unix::fs::symlink("/nowhere", state.marker()).unwrap();
    assert!(state.armed(), "a dangling link is a marker");
    state.disarm().unwrap();
    fs::create_dir(state.marker()).unwrap();
    assert!(state.armed());
    state.disarm().unwrap();
    assert!(!state.armed());
    // A state folder that is no folder cannot be looked into.
    fs::write(temp.0.join("file"), "").unwrap();
    assert!(StateDir::new(temp.0.join("file")).armed());
}

#[test]
fn the_lan_is_written_when_it_changed() {
    let temp = Temp::new("lan");
    let state = temp.state();
    let device = LanDevice {
        name: "br-lan".parse().unwrap(),
        prefixes: vec!["192.168.1.0/24".parse().unwrap()],
        forward: true,
    };
    let lan = Lan { devices: vec![device], routes: vec![] };
    assert_eq!(state.kept_lan().unwrap(), None);
    state.keep_lan(&lan).unwrap();
    let first = inode(&state.file("lan.json"));
    state.keep_lan(&lan).unwrap();
    assert_eq!(inode(&state.file("lan.json")), first, "no second write");
    state.keep_lan(&Lan::default()).unwrap();
    assert_ne!(inode(&state.file("lan.json")), first);
    fs::write(state.file("lan.json"), "{").unwrap();
    assert!(state.kept_lan().is_err());
    state.keep_lan(&lan).unwrap();
    assert_eq!(state.kept_lan().unwrap(), Some(lan));
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
}

#[test]
fn leftovers_are_harmless() {
    let temp = Temp::new("leftovers");
    let state = temp.state();
    state.store_wanted(&wanted("a")).unwrap();
    let dead = state.path().join(".wanted.json.4194305.new");
    let ours = temporary_name(&state.file("wanted.json"));
    let alive = state.path().join(".wanted.json.1.new");
    for leftover in [&dead, &alive] {
        fs::write(leftover, "half").unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd-of-another", &ours).unwrap();
    assert_eq!(state.wanted(), Some(wanted("a")));
    state.store_wanted(&wanted("b")).unwrap();
    assert_eq!(state.wanted(), Some(wanted("b")));
    assert!(!dead.exists(), "a dead process's temporary is swept");
    assert!(alive.exists(), "a living one's is not");
}

#[test]
fn leases_are_kept_for_a_later_daemon() {
    let temp = Temp::new("leases");
    let run = RunDir::new(temp.0.join("run"));
    let wan: IfName = "wan".parse().unwrap();
    assert!(run.leases().is_empty());
    run.set_lease(&wan, Some([192, 0, 2, 1].into())).unwrap();
    run.set_lease(&"eth1".parse().unwrap(), None).unwrap();
    assert_eq!(run.leases(), crate::sorted::Map::from([(wan.clone(), [192, 0, 2, 1].into())]));
    run.set_lease(&wan, None).unwrap();
    assert!(run.leases().is_empty());
    fs::write(run.path().join("leases.json"), "\x1b[2Jnonsense").unwrap();
    assert!(run.leases().is_empty());
    run.set_lease(&wan, Some([192, 0, 2, 2].into())).unwrap();
    assert_eq!(run.leases().keys().count(), 1);
}

/// In a mount namespace of its own: a file system of one page, then the same read-only.
#[test]
fn a_full_or_read_only_flash_is_said_and_changes_nothing() {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("needs root for a mount namespace: not run");
        return;
    }
    let temp = Temp::new("full");
    let dir = temp.0.join("flash");
    fs::create_dir_all(&dir).unwrap();
    std::thread::spawn(move || {
        let state = StateDir::new(&dir);
        let mount = |source: &str, target: &str, kind: &str, flags, data: &str| {
            let c = |s: &str| std::ffi::CString::new(s).unwrap();
            // SAFETY: five live C strings; the thread has a mount namespace of its own.
            let result = unsafe {
                libc::mount(
                    c(source).as_ptr(),
                    c(target).as_ptr(),
                    c(kind).as_ptr(),
                    flags,
                    c(data).as_ptr().cast(),
                )
            };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
        };
        // SAFETY: affects this thread only, which ends with this test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "");
        let at = dir.to_str().unwrap();
        mount("none", at, "tmpfs", 0, "size=8k");
        state.store_wanted(&wanted("a")).unwrap();
        fs::write(dir.join("filler"), [0_u8; 4096]).unwrap();
        let full = state.store_wanted(&wanted("b")).unwrap_err().to_string();
        assert!(full.contains("wanted.json") && full.contains("flash is full"), "{full}");
        assert_eq!(state.wanted(), Some(wanted("a")));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "no temporary stays");
        state.arm().unwrap();
        mount("none", at, "tmpfs", libc::MS_REMOUNT | libc::MS_RDONLY, "size=8k");
        let stuck = state.disarm().unwrap_err().to_string();
        assert!(stuck.contains("armed: cannot be removed") && stuck.contains("read-only"), "{stuck}");
        assert!(state.armed());
        let kept = state.store_wanted(&wanted("c")).unwrap_err().to_string();
        assert!(kept.contains("read-only"), "{kept}");
        assert_eq!(state.wanted(), Some(wanted("a")));
    })
    .join()
    .unwrap();
}

#[test]
fn the_same_word_is_not_written_twice() {
    use std::os::unix::fs::MetadataExt;
    let temp = Temp::new("twice");
    let state = temp.state();
    let file = state.path().join("wanted.json");
    let inode = || fs::metadata(&file).unwrap().ino();
    state.store_wanted(&wanted("se")).unwrap();
    // Held open, so that a new file could not get the same number.
    let held = fs::File::open(&file).unwrap();
    let first = inode();
    state.store_wanted(&wanted("se")).unwrap();
    assert_eq!(inode(), first, "written although nothing changed");
    state.store_wanted(&wanted("nl")).unwrap();
    assert_ne!(inode(), first, "a change was not written");
    assert_eq!(state.wanted(), Some(wanted("nl")));
    drop(held);
}
