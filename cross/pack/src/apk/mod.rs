//! apk 3's format (apk-tools, `doc/apk-v3.5.scd`): a database of values ([`adb`]) that says
//! everything about the package ([`package`]), and the files' contents behind it ([`container`]).
//!
//! Values lie in the order in which `apk mkpkg` writes them, so that what it makes of the same
//! tree is the same, byte for byte, before compression.

mod adb;
mod container;
mod package;

use crate::{Error, Package, openwrt};

/// # Errors
/// If the records clash with the tree, or the package is too big for the format.
pub fn write(package: &Package, arch: &str) -> Result<Vec<u8>, Error> {
    container::deflated(&uncompressed(package, arch)?)
}

/// The file before compression, which apk takes as well.
///
/// # Errors
/// As [`write`].
pub fn uncompressed(package: &Package, arch: &str) -> Result<Vec<u8>, Error> {
    let tree = openwrt::with_records(&package.tree, &package.meta)?;
    let folders = tree.by_folder();
    let adb = package::database(&package.meta, &folders, arch, package.epoch)?;
    container::assemble(&adb, &folders)
}
