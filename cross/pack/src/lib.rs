//! Writes OpenWrt packages without OpenWrt's SDK: `.ipk` for opkg (24.10 and older), `.apk` for
//! apk 3 (25.12 and later). What is in them is the feed's recipe alone (`openwrt/vpnd/Makefile`):
//! `cross/recipe` runs it and leaves a staged tree and a folder of metadata, which are read here.
//!
//! The same input gives the same bytes: nothing depends on owner, times or order of the files.

pub mod apk;
mod deflate;
mod error;
pub mod ipk;
mod meta;
mod openwrt;
mod tree;
mod version;

pub use error::Error;
pub use meta::Meta;
pub use tree::{Kind, Node, Tree};

/// A package before it is written in either format.
#[derive(Debug, Clone)]
pub struct Package {
    pub meta: Meta,
    pub tree: Tree,
    /// Seconds since 1970: the time of everything in the package.
    pub epoch: u32,
}

impl Package {
    /// # Errors
    /// What is wrong with the metadata, or where they contradict the tree.
    pub fn new(meta: Meta, mut tree: Tree, epoch: u32) -> Result<Self, Error> {
        meta.check()?;
        openwrt::keep(&mut tree, &meta)?;
        Ok(Self { meta, tree, epoch })
    }
}

/// Whether `arch` may stand in a file name and in either format's field.
///
/// # Errors
/// If it may not.
pub fn check_arch(arch: &str) -> Result<(), Error> {
    meta::check_word("architecture", arch)
}
