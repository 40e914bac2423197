//! What is refused, by library and program, and in which words.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use pack::{Meta, Package, Tree};

/// What cross/recipe leaves.
const FIELDS: [(&str, &str); 12] = [
    ("name", "small\n"),
    ("version", "1.2.3-r4\n"),
    ("section", "net\n"),
    ("license", "MIT\n"),
    ("license_files", "\n"),
    ("maintainer", "A Person <a@person.example>\n"),
    ("url", "\n"),
    ("source", "openwrt/small\n"),
    ("user", "\n"),
    ("depends", "libc zlib\n"),
    ("description", "  A small package.\n"),
    ("conffiles", "/etc/config/small\n/etc/small/\n"),
];

struct Stage(PathBuf);

impl Stage {
    fn new(name: &str) -> Self {
        let stage = Self(std::env::temp_dir().join(format!("pack-refusals-{}-{name}", std::process::id())));
        let _ = fs::remove_dir_all(&stage.0);
        for folder in ["", "meta", "tree", "tree/etc", "tree/etc/config"] {
            fs::create_dir_all(stage.path(folder)).unwrap();
            fs::set_permissions(stage.path(folder), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (field, text) in FIELDS {
            fs::write(stage.path("meta").join(field), text).unwrap();
        }
        stage.file("etc/config/small", 0o600);
        stage
    }
    fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }
    fn file(&self, path: &str, mode: u32) {
        let path = self.path("tree").join(path);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fn package(&self) -> Result<Package, pack::Error> {
        Package::new(Meta::read(&self.path("meta"))?, Tree::read(&self.path("tree"))?, 1)
    }
    fn pack(&self, line: &str) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pack"));
        let output = command.args(line.split_whitespace()).current_dir(&self.0).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn refused(stage: &Stage, words: &str) {
    let error = stage.package().map(|_| "nothing was refused").unwrap_err().to_string();
    assert!(error.contains(words), "{error}, wanted {words}");
}

#[test]
fn fields_that_neither_format_can_hold() {
    let stage = Stage::new("fields");
    assert!(stage.package().is_ok(), "control");
    for (field, text) in FIELDS {
        fs::remove_file(stage.path("meta").join(field)).unwrap();
        refused(&stage, &format!("meta/{field}: no such file"));
        fs::write(stage.path("meta").join(field), text).unwrap();
    }
    for (field, text, words) in [
        ("name", "", "package name ''"),
        ("name", "-small", "a letter or digit first"),
        ("name", "sm/all", "must be letters, digits"),
        ("name", "small pack", "must be letters, digits"),
        ("version", "1.2.3-4", "version '1.2.3-4': apk takes digits"),
        ("version", "v1", "apk takes digits"),
        ("section", "", "section '': must not be empty"),
        ("license", " ", "license ' ': must not be empty"),
        ("maintainer", "", "maintainer '': must not be empty"),
        ("maintainer", "A\nPackage: other", "must be one line"),
        ("url", "a\nb", "must be one line"),
        ("source", "", "must not be empty"),
        ("user", "a\tb", "must be one line"),
        ("depends", "libc zlib>=1", "dependency 'zlib>=1'"),
        ("description", " \n", "description ' \n': must not be empty"),
        ("description", "one\n\ntwo", "must have no empty line"),
        ("conffiles", "etc/config/small", "must be an absolute path"),
        ("conffiles", "/etc/../small", "must be an absolute path"),
        ("postinst", "echo\n", "must begin with #!/bin/sh"),
        ("prerm", "#!/bin/bash\n", "must begin with #!/bin/sh"),
    ] {
        let path = stage.path("meta").join(field);
        let former = fs::read(&path).ok();
        fs::write(&path, format!("{text}\n")).unwrap();
        refused(&stage, words);
        match former {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    fs::write(stage.path("meta/url"), b"\xff\n").unwrap();
    refused(&stage, "reading ");
}

#[test]
fn files_that_do_not_belong_into_a_package() {
    let tried = |name: &str, make: &dyn Fn(&Stage, &Path), words: &str| {
        let stage = Stage::new(name);
        make(&stage, &stage.path("tree"));
        refused(&stage, words);
    };
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    tried("missing", &|_, tree| fs::remove_dir_all(tree).unwrap(), "reading ");
    tried("root", &|_, tree| mode(tree, 0o700), "/: folder of mode 700, not 755");
    tried("folder", &|_, tree| mode(&tree.join("etc"), 0o775), "/etc: folder of mode 775");
    tried("group", &|stage, _| stage.file("etc/x", 0o664), "/etc/x: file of mode 664");
    tried("suid", &|stage, _| stage.file("etc/x", 0o4755), "/etc/x: file of mode 4755");
    tried("mute", &|stage, _| stage.file("etc/x", 0o044), "/etc/x: file of mode 44");
    tried("space", &|stage, _| stage.file("etc/a b", 0o644), "/etc/a b: too long, or with spaces");
    tried("line", &|stage, _| stage.file("etc/a\nb", 0o644), "too long, or with spaces");
    tried("long", &|stage, _| stage.file(&format!("etc/{}", "x".repeat(94)), 0o644), "too long");
    tried("link", &|_, tree| symlink("a b", tree.join("etc/x")).unwrap(), "/etc/x: links to 'a b'");
    tried(
        "socket",
        &|_, tree| drop(std::os::unix::net::UnixListener::bind(tree.join("etc/x")).unwrap()),
        "/etc/x: is neither a file nor a folder nor a link",
    );
    tried(
        "keep",
        &|stage, tree| {
            fs::create_dir_all(tree.join("lib")).unwrap();
            mode(&tree.join("lib"), 0o755);
            stage.file("lib/upgrade", 0o644);
        },
        "/lib/upgrade: is no folder, but something must lie in it",
    );
    // As long as it may be.
    let stage = Stage::new("longest");
    stage.file(&format!("etc/{}", "x".repeat(93)), 0o644);
    let package = stage.package().unwrap();
    assert!(pack::ipk::write(&package, "x86_64").is_ok() && pack::apk::write(&package, "x86_64").is_ok());
}

#[test]
fn records_of_the_package_manager_are_not_shipped() {
    let mut tree = Tree::default();
    tree.put("lib/apk/packages/small.list", Vec::new()).unwrap();
    assert!(tree.put("lib/apk", Vec::new()).unwrap_err().to_string().contains("is no file, but must be one"));
    let stage = Stage::new("records");
    let package = Package::new(Meta::read(&stage.path("meta")).unwrap(), tree, 1).unwrap();
    let error = pack::apk::write(&package, "x86_64").unwrap_err().to_string();
    assert!(error.starts_with("/lib/apk/packages/small.list: is written by the packer"), "{error}");
}

#[test]
fn the_program_writes_both_formats_for_each_architecture() {
    let stage = Stage::new("program");
    let good = "--tree tree --meta meta --epoch 1 --out out mips_24kc x86_64";
    let (code, said) = stage.pack(good);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.lines().count(), 4);
    let names = [
        "mips_24kc/small_1.2.3-r4_mips_24kc.ipk",
        "mips_24kc/small-1.2.3-r4.apk",
        "x86_64/small-1.2.3-r4.apk",
    ];
    let read = || names.map(|name| fs::read(stage.path("out").join(name)).unwrap());
    let first = read();
    // Again, with a package of another version there, and another user's habits.
    let others = ["small-app-1.0.apk", "smaller_1.0_all.ipk", "small_1.0.txt"];
    for name in others.iter().chain(&["small-1.0.apk", "small_1.0_x86_64.ipk"]) {
        fs::write(stage.path("out/x86_64").join(name), "").unwrap();
    }
    let line = format!("umask 077; export TZ=Asia/Tokyo; {} {good}", env!("CARGO_BIN_EXE_pack"));
    assert!(Command::new("sh").args(["-c", &line]).current_dir(&stage.0).status().unwrap().success());
    assert!(first == read());
    assert_eq!(fs::read_dir(stage.path("out/x86_64")).unwrap().count(), 2 + others.len());
    assert!(others.iter().all(|name| stage.path("out/x86_64").join(name).exists()));

    for (line, code, words) in [
        ("", 2, "something is missing"),
        ("--tree tree --meta meta --epoch 1 --out out", 2, "something is missing"),
        ("--tree tree --meta meta --epoch now --out out x86_64", 2, "--epoch 'now' is no time in seconds"),
        ("--wrong", 2, "invalid option '--wrong'"),
        ("--tree tree --meta meta --epoch 1 --out out ../x86_64", 1, "architecture '../x86_64'"),
        ("--tree none --meta meta --epoch 1 --out out x86_64", 1, "reading none"),
        ("--tree tree --meta none --epoch 1 --out out x86_64", 1, "none/name: no such file"),
        ("--tree tree --meta meta --epoch 1 --out meta/name x86_64", 1, "creating meta/name/x86_64"),
    ] {
        let (found, said) = stage.pack(line);
        assert!(found == Some(code) && said.contains(words), "{line}: {found:?} {said}");
    }
}
