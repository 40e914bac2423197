//! What an apk says of its package: the objects of apk-tools' `src/apk_adb.h`, in the order in
//! which `src/app_mkpkg.c` writes them.

use sha2::{Digest, Sha256};

use super::adb::{Value, Writer};
use crate::{Error, Kind, Meta, Node, openwrt};

/// A folder with its entries, as [`crate::Tree::by_folder`] gives them.
pub type Folder<'a> = (&'a str, Vec<(&'a str, &'a Node)>);

/// A symbolic link's target begins with its type.
const LINK: u16 = 0o120_000;
/// The package's hash of itself is a sha256 cut to the length of a sha1.
const HASH: u8 = 20;

pub fn database(meta: &Meta, folders: &[Folder<'_>], arch: &str, epoch: u32) -> Result<Vec<u8>, Error> {
    let mut adb = Writer::new();
    // pkginfo's fields before the sizes, which are known when the files are written.
    let name = adb.text(&meta.name);
    let version = adb.text(&meta.version);
    // OpenWrt gives it in one line.
    let description = adb.text(&meta.description.split_whitespace().collect::<Vec<_>>().join(" "));
    let (arch, license) = (adb.text(arch), adb.text(&meta.license));
    let (origin, maintainer) = (adb.text(&meta.source), adb.text(&meta.maintainer));
    let url = adb.text(&meta.url);
    let depends = dependencies(&mut adb, &meta.depends);

    let paths: Vec<Value> = folders.iter().map(|folder| directory(&mut adb, folder, epoch)).collect();
    let size = adb.int(installed_size(folders));
    let (hashes, hash_at) = adb.room(HASH);

    let none = Value::NULL;
    // name, version, hashes, description, arch, license, origin, maintainer, url, repo-commit,
    // build-time, installed-size, file-size, provider-priority, depends
    let info = adb.object(&[
        name,
        version,
        hashes,
        description,
        arch,
        license,
        origin,
        maintainer,
        url,
        none,
        none,
        size,
        none,
        none,
        depends,
    ]);
    let paths = adb.object(&paths);
    let scripts = scripts(&mut adb, meta);
    let root = adb.object(&[info, paths, scripts]);
    let mut bytes = adb.finish(root)?;
    // Of the database with zeros in its place.
    let hash = Sha256::digest(&bytes);
    bytes[hash_at..][..HASH.into()].copy_from_slice(&hash[..HASH.into()]);
    Ok(bytes)
}

/// Sorted by name, each once. Of a dependency only its name is known here.
fn dependencies(adb: &mut Writer, names: &[String]) -> Value {
    let mut values: Vec<(&String, Value)> = Vec::new();
    for name in names {
        let text = adb.text(name);
        values.push((name, adb.object(&[text])));
    }
    values.sort_by_key(|(name, _)| *name);
    values.dedup();
    let values: Vec<Value> = values.into_iter().map(|(_, value)| value).collect();
    adb.object(&values)
}

/// name, acl, files
fn directory(adb: &mut Writer, (path, entries): &Folder<'_>, epoch: u32) -> Value {
    let files: Vec<Value> = entries.iter().map(|(name, node)| file(adb, name, node, epoch)).collect();
    let name = adb.text(path);
    let acl = acl(adb, 0o755);
    let files = adb.object(&files);
    adb.object(&[name, acl, files])
}

/// name, acl, size, mtime, hash, target
fn file(adb: &mut Writer, name: &str, node: &Node, epoch: u32) -> Value {
    let name = adb.text(name);
    let (hash, target, size) = match &node.kind {
        Kind::File(bytes) => (adb.blob(&Sha256::digest(bytes)), Value::NULL, bytes.len()),
        Kind::Link(to) => {
            (Value::NULL, adb.blob(&[&LINK.to_le_bytes()[..], to.as_bytes()].concat()), to.len())
        }
        Kind::Folder => (Value::NULL, Value::NULL, 0),
    };
    let mtime = adb.int(epoch.into());
    let size = adb.int(size as u64);
    let acl = acl(adb, node.mode);
    adb.object(&[name, acl, size, mtime, hash, target])
}

/// mode, user, group
fn acl(adb: &mut Writer, mode: u32) -> Value {
    let mode = adb.int(mode.into());
    let root = adb.text("root");
    adb.object(&[mode, root, root])
}

/// Bytes of all regular files; 0 would say that there are none.
fn installed_size(folders: &[Folder<'_>]) -> u64 {
    let bytes = folders.iter().flat_map(|(_, entries)| entries).map(|(_, node)| match &node.kind {
        Kind::File(bytes) => bytes.len() as u64,
        _ => 0,
    });
    bytes.sum::<u64>().max(1)
}

/// trigger, pre-install, post-install, pre-deinstall, post-deinstall, pre-upgrade, post-upgrade
fn scripts(adb: &mut Writer, meta: &Meta) -> Value {
    let scripts = openwrt::apk_scripts(meta);
    let none = Value::NULL;
    let install = adb.text(&scripts.post_install);
    let deinstall = adb.text(&scripts.pre_deinstall);
    let deinstalled = adb.text(&scripts.post_deinstall);
    let upgrade = adb.text(&scripts.post_upgrade);
    adb.object(&[none, none, install, deinstall, deinstalled, none, upgrade])
}
