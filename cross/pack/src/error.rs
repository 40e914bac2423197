use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: no such file; cross/recipe writes one for each field of the recipe", .0.display())]
    NoField(PathBuf),
    #[error("{field} '{value}': {fault}")]
    Field { field: &'static str, value: String, fault: &'static str },
    #[error("/{path}: {fault}")]
    Path { path: String, fault: String },
    #[error("compressing: {0}")]
    Compress(#[from] libdeflater::CompressionError),
    #[error("{what}: {bytes} bytes are more than its format can hold")]
    TooBig { what: &'static str, bytes: usize },
}

impl Error {
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
    pub(crate) fn field(field: &'static str, value: &str, fault: &'static str) -> Self {
        Self::Field { field, value: value.to_owned(), fault }
    }
    pub(crate) fn path(path: &str, fault: impl Into<String>) -> Self {
        Self::Path { path: path.to_owned(), fault: fault.into() }
    }
}
