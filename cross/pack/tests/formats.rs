//! A small package in both formats, to the byte, and everything that is refused.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::{DeflateDecoder, GzDecoder};
use pack::{Meta, Package, Tree, apk, ipk};
use sha2::{Digest, Sha256};

const EPOCH: u32 = 1_700_000_000;

fn meta() -> Meta {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    Meta {
        name: "small".into(),
        version: "1.2.3-r4".into(),
        section: "net".into(),
        license: "MIT".into(),
        maintainer: "A Person <a@person.example>".into(),
        source: "openwrt/small".into(),
        depends: words("libc zlib busybox"),
        description: "  A small\n  package.".into(),
        conffiles: words("/etc/small/ /etc/config/small"),
        prerm: Some("#!/bin/sh\n[ -n \"$ROOT\" ] || echo gone\nexit 0".into()),
        postrm: Some("#!/bin/sh\nrmdir /etc/small".into()),
        ..Meta::default()
    }
}

/// Made in memory: no mode of 600, no link. `staged` has these.
fn tree() -> Tree {
    let mut tree = Tree::default();
    tree.put("usr/bin/small", vec![7; 70_000]).unwrap();
    tree.put("etc/config/small", b"config small\n".to_vec()).unwrap();
    tree.put("etc/empty", Vec::new()).unwrap();
    tree.put("etc-", b"behind etc/ in a tar, ahead of it by its name\n".to_vec()).unwrap();
    tree
}

fn package(meta: Meta) -> Package {
    Package::new(meta, tree(), EPOCH).unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

/// Mode, size and name of each entry of a gzipped tar, and their contents.
fn entries(gzipped: &[u8]) -> (String, Vec<Vec<u8>>) {
    let plain = gunzip(gzipped);
    assert_eq!(plain.len() % 10240, 0, "whole records");
    let (mut list, mut contents) = (String::new(), Vec::new());
    for entry in tar::Archive::new(&plain[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(header.mtime().unwrap(), u64::from(EPOCH));
        let name = String::from_utf8(header.path_bytes().into_owned()).unwrap();
        list += &format!("{:o} {} {name}\n", header.mode().unwrap(), header.size().unwrap());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        contents.push(content);
    }
    (list, contents)
}

#[test]
fn an_ipk_holds_what_opkg_wants() {
    let written = ipk::write(&package(meta()), "mips_24kc").unwrap();
    assert_eq!(written[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3], "neither name nor time in gzip's header");
    let (list, outer) = entries(&written);
    let names: Vec<&str> = list.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(names, ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]);
    assert_eq!(outer[0], b"2.0\n");
    let (list, contents) = entries(&outer[1]);
    assert_eq!(
        list,
        "755 0 ./\n755 0 ./etc/\n755 0 ./etc/config/\n644 13 ./etc/config/small\n644 0 ./etc/empty\n\
         644 46 ./etc-\n755 0 ./lib/\n755 0 ./lib/upgrade/\n755 0 ./lib/upgrade/keep.d/\n\
         644 12 ./lib/upgrade/keep.d/small\n755 0 ./usr/\n755 0 ./usr/bin/\n644 70000 ./usr/bin/small\n"
    );
    assert_eq!(contents[12], [7; 70_000]);
    assert_eq!(contents[9], b"/etc/small/\n");
    let (list, contents) = entries(&outer[2]);
    let contents: Vec<String> = contents.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    let names: Vec<&str> = list.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["", "conffiles", "control", "postinst", "postrm", "prerm", "prerm-pkg"]);
    let modes: Vec<&str> = list.lines().map(|line| &line[..3]).collect();
    assert_eq!(modes, ["755", "644", "644", "755", "755", "755", "755"]);
    assert_eq!(contents[1], "/etc/config/small\n");
    assert_eq!(
        contents[3],
        "#!/bin/sh\n[ \"${IPKG_NO_SCRIPT}\" = \"1\" ] && exit 0\n\
         [ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0\n. ${IPKG_INSTROOT}/lib/functions.sh\n\
         default_postinst $0 $@\n"
    );
    assert_eq!(
        contents[5],
        "#!/bin/sh\n[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0\n\
         . ${IPKG_INSTROOT}/lib/functions.sh\ndefault_prerm $0 $@\n"
    );
    assert_eq!(contents[4], "#!/bin/sh\nrmdir /etc/small\n");
    assert_eq!(contents[6], "#!/bin/sh\n[ -n \"$ROOT\" ] || echo gone\nexit 0\n");
    assert_eq!(
        contents[2],
        "Package: small\nVersion: 1.2.3-r4\nDepends: libc, zlib, busybox\nSource: openwrt/small\n\
         SourceName: small\nLicense: MIT\nSection: net\nSourceDateEpoch: 1700000000\n\
         Maintainer: A Person <a@person.example>\nArchitecture: mips_24kc\nInstalled-Size: 81920\n\
         Description:  A small\n package.\n"
    );
}

#[test]
fn accounts_and_other_fields_are_there_only_where_the_recipe_has_them() {
    let full = Meta {
        user: "small=500:small=500".into(),
        url: "https://small.example/".into(),
        license_files: "LICENSE".into(),
        ..meta()
    };
    let (_, outer) = entries(&ipk::write(&package(full.clone()), "all").unwrap());
    let (_, contents) = entries(&outer[2]);
    let control = String::from_utf8(contents[2].clone()).unwrap();
    for line in
        ["Require-User: small=500:small=500\n", "URL: https://small.example/\n", "LicenseFiles: LICENSE\n"]
    {
        assert!(control.contains(line), "{control}");
    }
    let plain = apk::uncompressed(&package(full), "noarch").unwrap();
    assert!(contains(&plain, b"small.rusers") && contains(&plain, b"small=500:small=500\n"));
    assert!(contains(&plain, b"/lib/apk/packages/small.rusers\n"), "in the list of files");
    let plain = apk::uncompressed(&package(meta()), "noarch").unwrap();
    assert!(!contains(&plain, b"small.rusers"));
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Of the small package with all kinds of files: what apk-tools 3.0.6's `apk mkpkg` writes of the
/// same tree, scripts and fields is the same to the byte (tried by hand, with
/// `--compression none` and SOURCE_DATE_EPOCH).
const APK: &str = "4903ad022d4265adb9993037f327f219e5114563563b29e6c58d9cc00f6264f7";

#[test]
fn an_apk_is_the_one_that_apk_itself_writes() {
    let folder = staged("golden", &[0, 1, 2, 3], EPOCH);
    let mut meta = meta();
    meta.depends.push("zlib".into());
    meta.postinst = Some("#!/bin/sh\necho new".into());
    let package = Package::new(meta, Tree::read(&folder).unwrap(), EPOCH).unwrap();
    let plain = apk::uncompressed(&package, "mips_24kc").unwrap();
    let sum: String = Sha256::digest(&plain).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum, APK);

    let written = apk::write(&package, "mips_24kc").unwrap();
    assert_eq!(&written[..4], b"ADBd");
    let mut inflated = Vec::new();
    DeflateDecoder::new(&written[4..]).read_to_end(&mut inflated).unwrap();
    assert_eq!(inflated, plain);
    std::fs::remove_dir_all(folder).unwrap();
}

/// A folder with files, a link and an empty file, made in this order and of this time.
fn staged(name: &str, order: &[usize], time: u32) -> PathBuf {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = std::env::temp_dir().join(format!("pack-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    for index in order {
        let (path, mode, bytes) = [
            ("etc/config/small", 0o600, b"config small\n".to_vec()),
            ("usr/bin/small", 0o755, vec![7; 70_000]),
            ("usr/bin/also", 0o777, Vec::new()),
            ("etc/empty", 0o644, Vec::new()),
        ][*index]
            .clone();
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.ends_with("also") {
            symlink("small", &path).unwrap();
            continue;
        }
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.into());
        std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
    for below in ["", "etc", "etc/config", "usr", "usr/bin"] {
        std::fs::set_permissions(folder.join(below), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let both = |folder: &PathBuf| {
        let package = Package::new(meta(), Tree::read(folder).unwrap(), EPOCH).unwrap();
        (ipk::write(&package, "x86_64").unwrap(), apk::write(&package, "x86_64").unwrap())
    };
    let (one, other) = (staged("one", &[0, 1, 2, 3], EPOCH), staged("other", &[3, 2, 1, 0], 1));
    assert!(both(&one) == both(&other), "whatever the folder, the times and the order of the files");
    let changed = Package::new(meta(), Tree::read(&one).unwrap(), EPOCH + 1).unwrap();
    assert!(ipk::write(&changed, "x86_64").unwrap() != both(&one).0, "control: the time is in it");
    assert!(ipk::write(&changed, "x86").unwrap() != ipk::write(&changed, "x86_64").unwrap());
    for folder in [one, other] {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn apks_scripts_hold_opkgs() {
    let plain = apk::uncompressed(&package(meta()), "noarch").unwrap();
    let head = "[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0\n. ${IPKG_INSTROOT}/lib/functions.sh\n\
                export root=\"${IPKG_INSTROOT}\"\nexport pkgname=\"small\"\n";
    let after = format!(
        "[ \"${{IPKG_NO_SCRIPT}}\" = \"1\" ] && exit 0\n{head}add_group_and_user\ndefault_postinst\n"
    );
    for script in [
        format!("#!/bin/sh\n{after}"),
        format!("#!/bin/sh\nexport PKG_UPGRADE=1\n{after}"),
        format!("#!/bin/sh\n{head}default_prerm\n[ -n \"$ROOT\" ] || echo gone\nexit 0\n"),
    ] {
        // With its length before it, so that nothing follows.
        let whole = [&(script.len() as u16).to_le_bytes()[..], script.as_bytes()].concat();
        let short = [&[script.len() as u8][..], script.as_bytes()].concat();
        assert!(contains(&plain, &whole) || script.len() < 256 && contains(&plain, &short), "{script}");
    }
}

#[test]
fn what_a_sysupgrade_keeps_is_one_list() {
    let keep = |shipped: Option<&str>, conffiles: &[&str]| {
        let mut tree = tree();
        if let Some(text) = shipped {
            tree.put("lib/upgrade/keep.d/small", text.into()).unwrap();
        }
        let conffiles = conffiles.iter().map(|path| (*path).to_owned()).collect();
        let package = Package::new(Meta { conffiles, ..meta() }, tree, EPOCH).unwrap();
        package.tree.file("lib/upgrade/keep.d/small").map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    };
    assert_eq!(keep(None, &[]), None);
    assert_eq!(keep(None, &["/etc/config/small"]), None, "a shipped file is the package manager's");
    assert_eq!(keep(None, &["/etc/small/"]).unwrap(), "/etc/small/\n");
    assert_eq!(keep(Some("/x\n/etc/small/\n"), &["/etc/small/"]).unwrap(), "/x\n/etc/small/\n");
    assert_eq!(keep(Some("/x"), &["/etc/small/", "/y"]).unwrap(), "/x\n/etc/small/\n/y\n");
}
