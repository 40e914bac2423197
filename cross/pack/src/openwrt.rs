//! What OpenWrt's build adds to every package (openwrt, `include/package-pack.mk`): the list of
//! what a sysupgrade keeps, the records that `default_postinst` and `default_prerm` read on a
//! router with apk, and the scripts that call these (`package/base-files/files/lib/functions.sh`).

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::{Error, Kind, Meta, Tree};

/// The line that lets a script do nothing where OpenWrt's functions are missing.
const FUNCTIONS: &str =
    "[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0\n. ${IPKG_INSTROOT}/lib/functions.sh\n";
/// The image builder runs the scripts itself, later.
const NO_SCRIPT: &str = "[ \"${IPKG_NO_SCRIPT}\" = \"1\" ] && exit 0\n";

/// Configuration that the package does not bring is kept over a sysupgrade by being listed. Where
/// the package brings such a list, they are one; a path stands in it once (OpenWrt would repeat it).
pub fn keep(tree: &mut Tree, meta: &Meta) -> Result<(), Error> {
    let path = format!("lib/upgrade/keep.d/{}", meta.name);
    let mut list = text(tree, &path)?;
    if !list.is_empty() && !list.ends_with('\n') {
        list.push('\n');
    }
    for conffile in meta.conffiles.iter().filter(|conffile| tree.file(&conffile[1..]).is_none()) {
        if !list.lines().any(|line| line == conffile) {
            list.push_str(conffile);
            list.push('\n');
        }
    }
    if list.is_empty() { Ok(()) } else { tree.put(&path, list.into_bytes()) }
}

fn text(tree: &Tree, path: &str) -> Result<String, Error> {
    String::from_utf8(tree.file(path).unwrap_or_default().to_vec())
        .map_err(|_| Error::path(path, "is no text"))
}

/// Configuration that the package brings, sorted.
pub fn shipped_conffiles<'a>(tree: &Tree, meta: &'a Meta) -> Vec<&'a str> {
    let mut shipped: Vec<&str> = meta.conffiles.iter().map(String::as_str).collect();
    shipped.retain(|conffile| tree.file(&conffile[1..]).is_some());
    shipped.sort_unstable();
    shipped.dedup();
    shipped
}

/// The tree of an apk: with the records below /lib/apk/packages.
pub fn with_records(tree: &Tree, meta: &Meta) -> Result<Tree, Error> {
    let mut whole = tree.clone();
    let base = format!("lib/apk/packages/{}", meta.name);
    if let Some((path, _)) = tree.iter().find(|(path, _)| path.starts_with(&base)) {
        return Err(Error::path(path, "is written by the packer, and must not be in the tree"));
    }
    if !meta.user.is_empty() {
        whole.put(&format!("{base}.rusers"), format!("{}\n", meta.user).into_bytes())?;
    }
    // All that is there so far, this list and those of configuration not.
    let mut list = String::new();
    for (path, node) in whole.iter() {
        if node.kind != Kind::Folder {
            let _ = writeln!(list, "/{path}");
        }
    }
    whole.put(&format!("{base}.list"), list.into_bytes())?;
    if !meta.conffiles.is_empty() {
        whole.put(&format!("{base}.conffiles"), (meta.conffiles.join("\n") + "\n").into_bytes())?;
    }
    let mut sums = String::new();
    for conffile in &meta.conffiles {
        if let Some(bytes) = tree.file(&conffile[1..]) {
            let _ = write!(sums, "{conffile} ");
            for byte in Sha256::digest(bytes) {
                let _ = write!(sums, "{byte:02x}");
            }
            sums.push('\n');
        }
    }
    if !sums.is_empty() {
        whole.put(&format!("{base}.conffiles_static"), sums.into_bytes())?;
    }
    Ok(whole)
}

/// opkg's scripts: the stubs, and the recipe's own beside them, which the functions source; after a
/// removal there is the recipe's alone.
pub fn ipk_scripts(meta: &Meta) -> Vec<(&'static str, String)> {
    let mut scripts = vec![
        ("postinst", format!("#!/bin/sh\n{NO_SCRIPT}{FUNCTIONS}default_postinst $0 $@\n")),
        ("prerm", format!("#!/bin/sh\n{FUNCTIONS}default_prerm $0 $@\n")),
    ];
    for (name, own) in
        [("postinst-pkg", &meta.postinst), ("prerm-pkg", &meta.prerm), ("postrm", &meta.postrm)]
    {
        scripts.extend(own.as_ref().map(|own| (name, format!("{own}\n"))));
    }
    scripts
}

/// apk's scripts, which must hold all in one.
pub struct ApkScripts {
    pub post_install: String,
    pub pre_deinstall: String,
    /// Empty if there is none.
    pub post_deinstall: String,
    pub post_upgrade: String,
}

pub fn apk_scripts(meta: &Meta) -> ApkScripts {
    let name = &meta.name;
    let whose = format!("export root=\"${{IPKG_INSTROOT}}\"\nexport pkgname=\"{name}\"\n");
    let own = |script: &Option<String>| script.as_deref().map(without_shebang).unwrap_or_default();
    let after =
        format!("{NO_SCRIPT}{FUNCTIONS}{whose}add_group_and_user\ndefault_postinst\n{}", own(&meta.postinst));
    ApkScripts {
        post_upgrade: format!("#!/bin/sh\nexport PKG_UPGRADE=1\n{after}"),
        post_install: format!("#!/bin/sh\n{after}"),
        post_deinstall: meta.postrm.as_ref().map(|own| format!("{own}\n")).unwrap_or_default(),
        pre_deinstall: format!("#!/bin/sh\n{FUNCTIONS}{whose}default_prerm\n{}", own(&meta.prerm)),
    }
}

fn without_shebang(script: &str) -> String {
    let mut text = String::new();
    for line in script.lines().filter(|line| !line.trim_start().starts_with("#!")) {
        text.push_str(line);
        text.push('\n');
    }
    text
}
