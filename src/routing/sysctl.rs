//! Kernel settings that rules cannot replace; the former values are kept in the run folder.
//!
//! # Source validation (`rp_filter`)
//!
//! It looks up how a packet's sender would be reached, and drops the packet when that is not the
//! way it came. Behind the barrier, and without a tunnel, no sender on the WAN can be reached: the
//! gateway's ARP requests, the lease's renewal, a relay's packets would all be dropped (measured,
//! tests/sysctl.rs; a mark on the packet spares IP packets, with `src_valid_mark`, but ARP carries
//! none). So it is off on WAN devices while the barrier stands, and as strict as before on LAN
//! devices. What it did against spoofed senders on the WAN, nftables does (contract 3.7): packets
//! for the tunnel's address are dropped before conntrack, `input` lets in answers and what is
//! listed, nothing is forwarded from WAN to LAN unasked, and no packet leaves by WAN or tunnel with
//! the address of another device.
//!
//! The kernel goes by the larger of `all` and the device's own value (`IN_DEV_RPFILTER` in
//! include/linux/inetdevice.h), so `all` has to be 0, and each LAN device gets what `all` was.
//! `default` is left alone: writing it also changes every device that has no value of its own yet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{IfName, Lan};
use crate::from_json::{from_bytes, from_json};
use crate::policy::Facts;
use crate::sorted::Map;

use super::{Error, Mended, Part};

const PROC: &str = "/proc/sys";
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

/// One setting that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Kept {
    /// From before vpnd touched it; never overwritten.
    former: String,
    /// What vpnd set last.
    ours: String,
}

from_json!(struct Kept { former, ours });

/// By path under /proc/sys.
type Record = Map<String, Kept>;

/// Sets what is wanted; to be called again whenever `facts` changed. The values from before the
/// first call are kept in `run_dir`. Returns what stood otherwise.
///
/// # Errors
/// [`Error::File`] naming the file; what was set stays set. Where source validation could not be
/// switched off is no error: [`strict_devices`] tells.
pub fn raise(run_dir: &Path, lan: &Lan, facts: &Facts) -> Result<Vec<Mended>, Error> {
    let before = recorded(run_dir)?.unwrap_or_default();
    let mut record = before.clone();
    let validation = source_validation(&record, lan, facts);
    for (key, value) in WANTED {
        note(&mut record, key, value, read(&proc(key))?);
    }
    for (key, value) in &validation {
        if let Ok(now) = read(&proc(key)) {
            note(&mut record, key, value, now);
        }
    }
    if record != before {
        write_record(run_dir, &record)?;
    }
    let mut mended = Vec::new();
    let mut note = |key: &str, former: Option<String>| {
        mended.extend(former.map(|former| Mended {
            part: Part::Setting,
            text: format!("{} was {former}", key.replace('/', ".")),
        }));
    };
    for (key, value) in WANTED {
        note(key, write_if_other(&proc(key), value)?);
    }
    for (key, value) in validation {
        // A device may have gone just now.
        note(&key, write_if_other(&proc(&key), &value).ok().flatten());
    }
    Ok(mended)
}

/// Puts the recorded values back and forgets them. Fine when nothing is recorded. A value that
/// somebody else changed meanwhile is left as it is, and so is a device that is gone.
///
/// # Errors
/// The first [`Error::File`], after everything else was put back; the record is kept then.
pub fn lower(run_dir: &Path) -> Result<(), Error> {
    let Some(record) = recorded(run_dir)? else {
        return Ok(());
    };
    let mut failed = None;
    for (key, kept) in record {
        let path = proc(&key);
        let result = match read(&path) {
            Ok(now) if now == kept.ours => write_if_other(&path, &kept.former).map(drop),
            Ok(_) => Ok(()),
            Err(_) if !path.exists() => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            failed.get_or_insert(error);
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let path = run_dir.join(RECORD);
    fs::remove_file(&path).map_err(file("removing", &path))
}

/// The settings whose change no netlink message tells of (devinet_conf_proc in net/ipv4/devinet.c tells of
/// rp_filter's).
pub(super) fn unheard() -> impl Iterator<Item = PathBuf> {
    WANTED.iter().map(|(key, _)| proc(key))
}

/// WAN devices whose packets the kernel still drops by their source, although [`raise`] has been
/// there (or because it has not).
#[must_use]
pub fn strict_devices(facts: &Facts) -> Vec<IfName> {
    let value = |name: &str| read(&proc(&rp_filter(name))).map_or(0, |text| number(&text));
    let all = value("all");
    let strict = |name: &IfName| all.max(value(name.as_str())) != 0;
    facts.wan.iter().map(|device| &device.name).filter(|name| strict(name)).cloned().collect()
}

/// The values of `rp_filter` that the barrier needs, in the order in which they are to be set: LAN
/// devices before `all`, so that these are never looser than they were.
fn source_validation(record: &Record, lan: &Lan, facts: &Facts) -> Vec<(String, String)> {
    let all = own_value(record, "all").unwrap_or(0);
    let mut values = Vec::new();
    for device in &lan.devices {
        if let Some(own) = own_value(record, device.name.as_str()) {
            values.push((rp_filter(device.name.as_str()), all.max(own).to_string()));
        }
    }
    let wan = facts.wan.iter().map(|device| device.name.as_str());
    values.extend(wan.chain(["all"]).map(|name| (rp_filter(name), "0".to_owned())));
    values
}

/// The value that a device would have without vpnd: what stands there, unless vpnd set it. `all`
/// is vpnd's while the barrier stands. None: no such device.
fn own_value(record: &Record, name: &str) -> Option<u8> {
    let key = rp_filter(name);
    let now = read(&proc(&key)).ok()?;
    let own = record.get(&key).filter(|kept| kept.ours == now || name == "all").map(|kept| &kept.former);
    Some(number(own.unwrap_or(&now)))
}

fn rp_filter(name: &str) -> String {
    format!("net/ipv4/conf/{name}/rp_filter")
}

fn number(text: &str) -> u8 {
    text.parse().unwrap_or(0)
}

fn note(record: &mut Record, key: &str, ours: &str, now: String) {
    match record.get_mut(key) {
        Some(kept) => ours.clone_into(&mut kept.ours),
        None if now == ours => {}
        None => {
            record.insert(key.to_owned(), Kept { former: now, ours: ours.to_owned() });
        }
    }
}

fn recorded(run_dir: &Path) -> Result<Option<Record>, Error> {
    let path = run_dir.join(RECORD);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file("reading", &path)(source)),
    };
    // A torn record is none: the settings stay as the barrier needs them.
    Ok(from_bytes(&text).ok())
}

fn write_record(run_dir: &Path, record: &Record) -> Result<(), Error> {
    let path = run_dir.join(RECORD);
    let draft = run_dir.join("sysctl.json.new");
    let text = serde_json::to_vec(record).map_err(|error| file("writing", &path)(io::Error::other(error)))?;
    fs::write(&draft, text).map_err(file("writing", &draft))?;
    fs::rename(&draft, &path).map_err(file("writing", &path))
}

fn proc(key: &str) -> PathBuf {
    Path::new(PROC).join(key)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(file("reading", path))
}

/// What stood there, if it was another value.
fn write_if_other(path: &Path, value: &str) -> Result<Option<String>, Error> {
    let former = read(path)?;
    if former == value {
        return Ok(None);
    }
    fs::write(path, value).map_err(file("writing", path)).map(|()| Some(former))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::File { action, path, source }
}
