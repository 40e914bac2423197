//! Kernel settings that rules cannot replace; the former values are kept in the run folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::IfName;
use crate::policy::Facts;

use super::Error;

const RECORD: &str = "sysctl.json";

/// What is set, under /proc/sys. For each, the kernel takes the stricter of `all` and the
/// device's own (include/linux/inetdevice.h), so `all` is enough. Contract section 3.
const WANTED: [(&str, &str); 3] = [
    // An incoming packet's mark counts when its source is validated (rp_filter): a marked answer
    // of the relay is looked for where marked packets go.
    ("net/ipv4/conf/all/src_valid_mark", "1"),
    // ARP is answered only for addresses of the device that was asked: nobody on the WAN learns
    // whether an address is the tunnel's.
    ("net/ipv4/conf/all/arp_ignore", "1"),
    // ARP requests never name an address of another device.
    ("net/ipv4/conf/all/arp_announce", "2"),
];

/// Sets what is wanted. The values from before the first call are kept in `run_dir`.
///
/// # Errors
/// [`Error::File`] naming the file; what was set stays set.
pub fn raise(run_dir: &Path) -> Result<(), Error> {
    let proc = Path::new("/proc/sys");
    let mut former = recorded(run_dir)?.unwrap_or_default();
    let mut added = false;
    for (key, value) in WANTED {
        let now = read(&proc.join(key))?;
        if now != value && !former.contains_key(key) {
            former.insert(key.to_owned(), now);
            added = true;
        }
    }
    if added {
        record(run_dir, &former)?;
    }
    for (key, value) in WANTED {
        write_if_other(&proc.join(key), value)?;
    }
    Ok(())
}

/// Puts the recorded values back and forgets them. Fine when nothing is recorded. A value that
/// somebody else changed meanwhile is left as it is.
///
/// # Errors
/// [`Error::File`] naming the file; the record is kept then.
pub fn lower(run_dir: &Path) -> Result<(), Error> {
    let Some(former) = recorded(run_dir)? else {
        return Ok(());
    };
    for (key, ours) in WANTED {
        let path = Path::new("/proc/sys").join(key);
        if let Some(value) = former.get(key) {
            if read(&path)? == ours {
                write_if_other(&path, value)?;
            }
        }
    }
    let path = run_dir.join(RECORD);
    fs::remove_file(&path).map_err(file("removing", &path))
}

/// WAN devices on which the kernel validates sources (rp_filter 1 or 2), which does not go together
/// with the barrier: without a tunnel the look-up of any sender on the WAN ends in the barrier.
/// Packets that carry the mark when they come in are spared (`src_valid_mark`), ARP requests carry
/// none: the gateway can no longer find the router (measured, tests/routing.rs). With a tunnel,
/// 2 does no harm and 1 does. `net.ipv4.conf.DEVICE.rp_filter` and `…all…` must be 0.
#[must_use]
pub fn strict_devices(facts: &Facts) -> Vec<IfName> {
    let value = |name: &str| {
        let path = PathBuf::from("/proc/sys/net/ipv4/conf").join(name).join("rp_filter");
        read(&path).ok().and_then(|text| text.parse::<u8>().ok()).unwrap_or(0)
    };
    let all = value("all");
    let strict = |name: &IfName| all.max(value(name.as_str())) != 0;
    facts.wan.iter().map(|device| &device.name).filter(|name| strict(name)).cloned().collect()
}

fn recorded(run_dir: &Path) -> Result<Option<BTreeMap<String, String>>, Error> {
    let path = run_dir.join(RECORD);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file("reading", &path)(source)),
    };
    // A torn record is none: the settings stay strict, which harms nobody.
    Ok(serde_json::from_slice(&text).ok())
}

fn record(run_dir: &Path, former: &BTreeMap<String, String>) -> Result<(), Error> {
    let path = run_dir.join(RECORD);
    let draft = run_dir.join("sysctl.json.new");
    let text = serde_json::to_vec(former).map_err(|error| file("writing", &path)(io::Error::other(error)))?;
    fs::write(&draft, text).map_err(file("writing", &draft))?;
    fs::rename(&draft, &path).map_err(file("writing", &path))
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(file("reading", path))
}

fn write_if_other(path: &Path, value: &str) -> Result<(), Error> {
    if read(path)? == value {
        return Ok(());
    }
    fs::write(path, value).map_err(file("writing", path))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::File { action, path, source }
}
