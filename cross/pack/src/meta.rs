//! The recipe's fields, as `cross/recipe` leaves them: a folder with one file a field.

use std::fs;
use std::path::Path;

use crate::{Error, version};

#[derive(Debug, Clone, Default)]
pub struct Meta {
    pub name: String,
    /// `PKG_VERSION-rPKG_RELEASE`.
    pub version: String,
    pub section: String,
    pub license: String,
    /// May be empty, as may be `url` and `user`.
    pub license_files: String,
    pub maintainer: String,
    pub url: String,
    /// The recipe's folder.
    pub source: String,
    /// `USERID`: accounts that the package needs, `user=uid:group=gid`.
    pub user: String,
    pub depends: Vec<String>,
    /// Lines.
    pub description: String,
    /// Absolute paths; of folders with a slash at the end.
    pub conffiles: Vec<String>,
    /// Own part of the script after installing, shebang and all; None if the recipe has none.
    pub postinst: Option<String>,
    /// Own part of the script before removing, likewise.
    pub prerm: Option<String>,
    /// The script after removing.
    pub postrm: Option<String>,
}

impl Meta {
    /// # Errors
    /// A field that is missing or no text. What they say is checked by [`crate::Package::new`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let field = |name: &str| optional(folder, name)?.ok_or_else(|| Error::NoField(folder.join(name)));
        let words = |name: &str| Ok::<_, Error>(field(name)?.split_whitespace().map(str::to_owned).collect());
        Ok(Self {
            name: field("name")?,
            version: field("version")?,
            section: field("section")?,
            license: field("license")?,
            license_files: field("license_files")?,
            maintainer: field("maintainer")?,
            url: field("url")?,
            source: field("source")?,
            user: field("user")?,
            depends: words("depends")?,
            description: field("description")?,
            conffiles: words("conffiles")?,
            postinst: optional(folder, "postinst")?,
            prerm: optional(folder, "prerm")?,
            postrm: optional(folder, "postrm")?,
        })
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_word("package name", &self.name)?;
        if !version::is_valid(&self.version) {
            return Err(Error::field(
                "version",
                &self.version,
                "apk takes digits(.digits)…[letter][_suffixN][~hash]-rN",
            ));
        }
        for (name, value, needed) in [
            ("section", &self.section, true),
            ("license", &self.license, true),
            ("license files", &self.license_files, false),
            ("maintainer", &self.maintainer, true),
            ("url", &self.url, false),
            ("source", &self.source, true),
            ("user", &self.user, false),
        ] {
            if value.chars().any(char::is_control) {
                return Err(Error::field(name, value, "must be one line"));
            }
            if needed && value.trim().is_empty() {
                return Err(Error::field(name, value, "must not be empty"));
            }
        }
        if self.description.lines().all(|line| line.trim().is_empty()) {
            return Err(Error::field("description", &self.description, "must not be empty"));
        }
        // opkg's end of a paragraph.
        if self.description.lines().any(|line| line.trim().is_empty()) {
            return Err(Error::field("description", &self.description, "must have no empty line"));
        }
        for package in &self.depends {
            check_word("dependency", package)?;
        }
        for path in &self.conffiles {
            if !path.starts_with('/') || path.split('/').any(|part| part == "." || part == "..") {
                return Err(Error::field("conffile", path, "must be an absolute path"));
            }
        }
        for script in [&self.postinst, &self.prerm, &self.postrm].into_iter().flatten() {
            if !script.starts_with("#!/bin/sh\n") {
                return Err(Error::field("script", script, "must begin with #!/bin/sh"));
            }
        }
        Ok(())
    }
}

/// A package's or an architecture's name: what both formats and a file name can hold (apk-tools,
/// `src/apk_adb.c`, `name_fromstring`; OpenWrt, `scripts/ipkg-build`, `pkg_appears_sane`).
pub(crate) fn check_word(field: &'static str, value: &str) -> Result<(), Error> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    if value.starts_with(|c: char| c.is_ascii_alphanumeric()) && value.chars().all(inner) {
        return Ok(());
    }
    Err(Error::field(field, value, "must be letters, digits and + - . _, a letter or digit first"))
}

/// The field without the newline that ends its file.
fn optional(folder: &Path, name: &str) -> Result<Option<String>, Error> {
    let path = folder.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("reading", &path, error)),
    }
}
