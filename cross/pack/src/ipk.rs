//! opkg's format: a gzipped tar of `debian-binary`, `data.tar.gz` and `control.tar.gz`, in that
//! order (openwrt, `scripts/ipkg-build`). The tars are what GNU tar writes with `--format=gnu
//! --numeric-owner --sort=name`, byte for byte.

use tar::{EntryType, Header};

use crate::deflate::gzip;
use crate::{Error, Kind, Node, Package, openwrt};

/// tar's record: the archive is padded to a multiple of it.
const RECORD: usize = 10240;

/// # Errors
/// If a file is too big for a tar header.
pub fn write(package: &Package, arch: &str) -> Result<Vec<u8>, Error> {
    let data = data(package)?;
    let control = control(package, arch, data.len())?;
    let file = |bytes: Vec<u8>| Node { mode: 0o644, kind: Kind::File(bytes) };
    let mut all = Vec::new();
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("data.tar.gz", gzip(&data)?),
        ("control.tar.gz", gzip(&control)?),
    ] {
        append(&mut all, name, &file(bytes), package.epoch)?;
    }
    gzip(&end(all))
}

fn data(package: &Package) -> Result<Vec<u8>, Error> {
    let mut nodes: Vec<(&str, &Node)> = package.tree.iter().collect();
    // Folder by folder, as tar walks.
    nodes.sort_by(|a, b| a.0.split('/').cmp(b.0.split('/')));
    let mut all = Vec::new();
    for (path, node) in nodes {
        append(&mut all, path, node, package.epoch)?;
    }
    Ok(end(all))
}

fn control(package: &Package, arch: &str, installed: usize) -> Result<Vec<u8>, Error> {
    let file = |mode, text: String| Node { mode, kind: Kind::File(text.into_bytes()) };
    let mut files = vec![("control", file(0o644, fields(package, arch, installed)))];
    let conffiles = openwrt::shipped_conffiles(&package.tree, &package.meta);
    if !conffiles.is_empty() {
        files.push(("conffiles", file(0o644, conffiles.join("\n") + "\n")));
    }
    files.extend(
        openwrt::ipk_scripts(&package.meta).into_iter().map(|(name, text)| (name, file(0o755, text))),
    );
    files.sort_by_key(|(name, _)| *name);
    let mut all = Vec::new();
    append(&mut all, "", &Node { mode: 0o755, kind: Kind::Folder }, package.epoch)?;
    for (name, node) in &files {
        append(&mut all, name, node, package.epoch)?;
    }
    Ok(end(all))
}

/// The control file: fields that are empty are left out. `installed`: bytes of the unpacked data.
fn fields(package: &Package, arch: &str, installed: usize) -> String {
    let meta = &package.meta;
    let mut text = String::new();
    for (name, value) in [
        ("Package", meta.name.as_str()),
        ("Version", &meta.version),
        ("Depends", &meta.depends.join(", ")),
        ("Source", &meta.source),
        ("SourceName", &meta.name),
        ("License", &meta.license),
        ("LicenseFiles", &meta.license_files),
        ("Section", &meta.section),
        ("Require-User", &meta.user),
        ("SourceDateEpoch", &package.epoch.to_string()),
        ("URL", &meta.url),
        ("Maintainer", &meta.maintainer),
        ("Architecture", arch),
        ("Installed-Size", &installed.to_string()),
    ] {
        if !value.is_empty() {
            text += &format!("{name}: {value}\n");
        }
    }
    // Its first line begins with a space, too.
    text += "Description: ";
    for line in meta.description.lines() {
        text += &format!(" {}\n", line.trim_start());
    }
    text
}

fn append(all: &mut Vec<u8>, path: &str, node: &Node, epoch: u32) -> Result<(), Error> {
    let mut header = Header::new_gnu();
    let (name, kind, bytes) = match &node.kind {
        Kind::Folder if path.is_empty() => ("./".to_owned(), EntryType::Directory, [].as_slice()),
        Kind::Folder => (format!("./{path}/"), EntryType::Directory, [].as_slice()),
        Kind::File(bytes) => (format!("./{path}"), EntryType::Regular, bytes.as_slice()),
        Kind::Link(target) => {
            fill(&mut header.as_old_mut().linkname, target, path)?;
            (format!("./{path}"), EntryType::Symlink, [].as_slice())
        }
    };
    fill(&mut header.as_old_mut().name, &name, path)?;
    header.set_entry_type(kind);
    header.set_mode(node.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch.into());
    // Twelve octal digits would overrun the field.
    if bytes.len() >= 1 << 33 {
        return Err(Error::TooBig { what: "a file in a tar", bytes: bytes.len() });
    }
    header.set_size(bytes.len() as u64);
    // GNU tar's form of the sum: six digits, NUL, space.
    header.as_old_mut().cksum = *b"        ";
    let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
    fill(&mut header.as_old_mut().cksum, &format!("{sum:06o}\0 "), path)?;
    all.extend_from_slice(header.as_bytes());
    all.extend_from_slice(bytes);
    all.resize(all.len().next_multiple_of(512), 0);
    Ok(())
}

fn fill(field: &mut [u8], text: &str, path: &str) -> Result<(), Error> {
    let part = field.get_mut(..text.len()).ok_or_else(|| Error::path(path, "too long for a tar header"))?;
    part.copy_from_slice(text.as_bytes());
    Ok(())
}

/// Two empty blocks, and the rest of the record.
fn end(mut all: Vec<u8>) -> Vec<u8> {
    all.resize((all.len() + 1024).next_multiple_of(RECORD), 0);
    all
}
