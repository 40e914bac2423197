//! pack --tree DIR --meta DIR --epoch SECONDS --out DIR ARCH...
//!
//! Writes DIR/ARCH/NAME_VERSION_ARCH.ipk and DIR/ARCH/NAME-VERSION.apk for every ARCH, and says
//! what it wrote. What lies there of NAME's other versions is removed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::ValueExt as _;
use lexopt::prelude::{Long, Value};
use pack::{Error, Meta, Package, Tree};

const USAGE: &str = "usage: pack --tree DIR --meta DIR --epoch SECONDS --out DIR ARCH...";

struct Task {
    tree: PathBuf,
    meta: PathBuf,
    out: PathBuf,
    epoch: u32,
    archs: Vec<String>,
}

fn main() -> ExitCode {
    let task = match parse(lexopt::Parser::from_env()) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("pack: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
    let (mut tree, mut meta, mut out, mut epoch, mut archs) = (None, None, None, None, Vec::new());
    let path = |value: OsString| Some(PathBuf::from(value));
    while let Some(word) = parser.next()? {
        match word {
            Long("tree") => tree = path(parser.value()?),
            Long("meta") => meta = path(parser.value()?),
            Long("out") => out = path(parser.value()?),
            Long("epoch") => {
                let text = parser.value()?.string()?;
                epoch = Some(text.parse().map_err(|_| format!("--epoch '{text}' is no time in seconds"))?);
            }
            Value(arch) => archs.push(arch.string()?),
            other => return Err(other.unexpected()),
        }
    }
    match (tree, meta, out, epoch) {
        (Some(tree), Some(meta), Some(out), Some(epoch)) if !archs.is_empty() => {
            Ok(Task { tree, meta, out, epoch, archs })
        }
        _ => Err("something is missing".into()),
    }
}

fn run(task: &Task) -> Result<(), Error> {
    let package = Package::new(Meta::read(&task.meta)?, Tree::read(&task.tree)?, task.epoch)?;
    let (name, version) = (&package.meta.name, &package.meta.version);
    for arch in &task.archs {
        pack::check_arch(arch)?;
        let folder = task.out.join(arch);
        clear(&folder, name)?;
        write(&folder.join(format!("{name}_{version}_{arch}.ipk")), &pack::ipk::write(&package, arch)?)?;
        write(&folder.join(format!("{name}-{version}.apk")), &pack::apk::write(&package, arch)?)?;
    }
    Ok(())
}

/// A folder without packages of this name: what lies there should be of one version.
fn clear(folder: &Path, name: &str) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|error| Error::io("creating", folder, error))?;
    let entries = fs::read_dir(folder).map_err(|error| Error::io("listing", folder, error))?;
    for entry in entries {
        let path = entry.map_err(|error| Error::io("listing", folder, error))?.path();
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let ours = match file.strip_prefix(name) {
            Some(rest) if file.ends_with(".ipk") => rest.starts_with('_'),
            // A version begins with a digit; `NAME-more` would be another package.
            Some(rest) if file.ends_with(".apk") => {
                rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            }
            _ => false,
        };
        if ours {
            fs::remove_file(&path).map_err(|error| Error::io("removing", &path, error))?;
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|error| Error::io("writing", path, error))?;
    println!("{} {}", path.display(), bytes.len());
    Ok(())
}
