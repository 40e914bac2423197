//! The real libuci behind a small safe interface, to compare our own UCI reader with.
//!
//! `cargo test -p uci-oracle` needs cmake, a C compiler and libclang. The libraries are shared
//! ones inside the build folder; cargo puts that folder on the test's library path by itself.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use libuci_sys as uci;
use vpnd::config::uci::{Command, Commands, Fault, Package, Value};

/// A package without what libuci does not have (line numbers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(pub Vec<Section>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub kind: String,
    pub name: String,
    pub anonymous: bool,
    pub options: Vec<(String, Values)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
}

impl From<Package> for Tree {
    fn from(package: Package) -> Self {
        Self(
            package
                .sections
                .into_iter()
                .map(|section| Section {
                    kind: section.kind,
                    name: section.name,
                    anonymous: section.anonymous,
                    options: section
                        .options
                        .into_iter()
                        .map(|entry| {
                            let values = match entry.value {
                                Value::Text(item) => Values::Text(item.bytes),
                                Value::List(items) => {
                                    Values::List(items.into_iter().map(|item| item.bytes).collect())
                                }
                            };
                            (entry.name, values)
                        })
                        .collect(),
                })
                .collect(),
        )
    }
}

/// A folder of its own for one libuci context: `config` for the files, `changes` for its deltas.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// # Errors
    /// When the temporary folder cannot be written.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Thousands of small files: in memory where that can be had.
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = base.join(format!("uci-oracle.{}.{count}", std::process::id()));
        fs::create_dir_all(path.join("config"))?;
        fs::create_dir_all(path.join("changes"))?;
        Ok(Self { path })
    }

    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join("config").join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A libuci context on a [`Folder`].
pub struct Context {
    raw: *mut uci::uci_context,
}

/// libuci's error number.
pub type Code = i32;

impl Context {
    /// # Panics
    /// When libuci has no memory.
    #[must_use]
    pub fn new(folder: &Folder) -> Self {
        // SAFETY: no arguments; the result is checked.
        let raw = unsafe { uci::uci_alloc_context() };
        assert!(!raw.is_null(), "libuci has no memory");
        let config = c_path(&folder.path.join("config"));
        let changes = c_path(&folder.path.join("changes"));
        // SAFETY: `raw` is a live context and both strings are terminated; libuci copies them.
        unsafe {
            uci::uci_set_confdir(raw, config.as_ptr());
            uci::uci_set_savedir(raw, changes.as_ptr());
        }
        Self { raw }
    }

    /// Reads the file `name` of the folder.
    ///
    /// # Errors
    /// What libuci returns.
    pub fn load(&mut self, name: &str) -> Result<Loaded<'_>, Code> {
        let name = c_text(name.as_bytes());
        let mut package = ptr::null_mut();
        // SAFETY: live context, terminated name, and a place for the result.
        let code = unsafe { uci::uci_load(self.raw, name.as_ptr(), &mut package) };
        if code != 0 || package.is_null() {
            return Err(code);
        }
        Ok(Loaded { context: self, package })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: allocated by uci_alloc_context and not used again.
        unsafe { uci::uci_free_context(self.raw) }
    }
}

pub struct Loaded<'a> {
    context: &'a mut Context,
    package: *mut uci::uci_package,
}

impl Loaded<'_> {
    #[must_use]
    pub fn tree(&self) -> Tree {
        let mut sections = Vec::new();
        // SAFETY: libuci's list of sections hangs together as long as the package lives, and each
        // element of it is the first member of a uci_section.
        unsafe {
            each(&raw mut (*self.package).sections, |element| {
                let section = element.cast::<uci::uci_section>();
                let mut options = Vec::new();
                each(&raw mut (*section).options, |element| {
                    options.push(option(element.cast()));
                });
                sections.push(Section {
                    kind: text((*section).type_),
                    name: text((*section).e.name),
                    anonymous: (*section).anonymous,
                    options,
                });
            });
        }
        Tree(sections)
    }

    /// # Errors
    /// What `uci_set` returns.
    pub fn set(&mut self, section: &str, option: &str, value: &[u8]) -> Result<(), Code> {
        self.change(section, option, value, uci::uci_set)
    }

    /// # Errors
    /// What `uci_add_list` returns.
    pub fn add_list(&mut self, section: &str, option: &str, value: &[u8]) -> Result<(), Code> {
        self.change(section, option, value, uci::uci_add_list)
    }

    fn change(
        &mut self,
        section: &str,
        option: &str,
        value: &[u8],
        call: unsafe extern "C" fn(*mut uci::uci_context, *mut uci::uci_ptr) -> i32,
    ) -> Result<(), Code> {
        let (section, option, value) = (c_text(section.as_bytes()), c_text(option.as_bytes()), c_text(value));
        // SAFETY: uci_ptr is a C struct of pointers and integers: all zero is its empty value.
        // Its strings outlive the call, which copies what it keeps.
        let code = unsafe {
            let mut target: uci::uci_ptr = std::mem::zeroed();
            target.p = self.package;
            target.package = (*self.package).e.name;
            target.section = section.as_ptr();
            target.option = option.as_ptr();
            target.value = value.as_ptr();
            call(self.context.raw, &mut target)
        };
        if code == 0 { Ok(()) } else { Err(code) }
    }

    /// Writes the file as `uci commit` does.
    ///
    /// # Errors
    /// What `uci_commit` returns.
    pub fn commit(mut self) -> Result<(), Code> {
        // SAFETY: live context and package; libuci may replace the package, which is not used on.
        let code = unsafe { uci::uci_commit(self.context.raw, &raw mut self.package, false) };
        if code == 0 { Ok(()) } else { Err(code) }
    }
}

/// # Safety
/// `head` must be the head of one of libuci's lists, and the list must not change meanwhile.
unsafe fn each(head: *mut uci::uci_list, mut visit: impl FnMut(*mut uci::uci_element)) {
    // SAFETY: libuci's lists are rings that end at their head; the list node is the first member
    // of each element.
    unsafe {
        let mut node = (*head).next;
        while node != head {
            visit(node.cast());
            node = (*node).next;
        }
    }
}

/// # Safety
/// `option` must point to a live option.
unsafe fn option(option: *mut uci::uci_option) -> (String, Values) {
    // SAFETY: the union's member in use follows the option's type.
    unsafe {
        let values = if (*option).type_ == uci::uci_option_type_UCI_TYPE_STRING {
            Values::Text(bytes((*option).v.string))
        } else {
            let mut items = Vec::new();
            each(&raw mut (*option).v.list, |element| items.push(bytes((*element).name)));
            Values::List(items)
        };
        (text((*option).e.name), values)
    }
}

/// # Safety
/// `raw` must point to a terminated string.
unsafe fn bytes(raw: *const c_char) -> Vec<u8> {
    // SAFETY: as the function's own condition.
    unsafe { CStr::from_ptr(raw) }.to_bytes().to_vec()
}

/// # Safety
/// `raw` must point to a terminated string.
unsafe fn text(raw: *const c_char) -> String {
    // SAFETY: as the function's own condition.
    String::from_utf8_lossy(&unsafe { bytes(raw) }).into_owned()
}

fn c_text(bytes: &[u8]) -> CString {
    #[allow(clippy::expect_used)] // a test's own texts; a zero byte is the test's mistake
    CString::new(bytes).expect("no zero byte in a C string")
}

fn c_path(path: &Path) -> CString {
    c_text(path.as_os_str().as_encoded_bytes())
}

/// What libuci makes of these bytes as the file `probe`.
///
/// # Errors
/// libuci's error number.
///
/// # Panics
/// When the file cannot be written.
pub fn libuci(folder: &Folder, data: &[u8]) -> Result<Tree, Code> {
    #[allow(clippy::expect_used)] // a test helper
    fs::write(folder.file("probe"), data).expect("write the probe file");
    Context::new(folder).load("probe").map(|loaded| loaded.tree())
}

/// What our reader makes of them.
///
/// # Errors
/// Our reader's fault.
pub fn ours(data: &[u8]) -> Result<Tree, Fault> {
    vpnd::config::uci::parse(data).map(Tree::from)
}

/// libuci's UCI_ERR_PARSE.
const PARSE: Code = 5;

/// What the two readers make of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// By both, with one tree.
    Accepted,
    /// By both.
    Refused,
    /// They differ on purpose (docs/decisions.md).
    Exempt,
    Differs(String),
}

/// `mine`: what our reader made of `data`.
///
/// # Panics
/// When the file for libuci cannot be written.
#[must_use]
pub fn compare(folder: &Folder, data: &[u8], mine: Result<Tree, Fault>) -> Agreement {
    let differs = |how: String| Agreement::Differs(format!("{how} of {:?}", String::from_utf8_lossy(data)));
    // libuci takes a zero byte for the end of a read and glues the next line to what stood before
    // it; how much, depends on its buffer's size at that moment. We refuse the file.
    if data.contains(&0) {
        return if mine.is_err() { Agreement::Exempt } else { differs("we take a zero byte".to_owned()) };
    }
    match (libuci(folder, data), mine) {
        (Ok(theirs), Ok(mine)) if theirs == mine => Agreement::Accepted,
        (Err(_), Err(_)) => Agreement::Refused,
        (Err(PARSE), Ok(_)) if opened_thrice(data) => Agreement::Exempt,
        (theirs, mine) => differs(format!("libuci says {theirs:?}, we say {mine:?}")),
    }
}

/// libuci loses track of a section when it is opened for the third time (uci_set leaves `last`
/// empty once the type was stored apart) and then takes an option in it for one "before the first
/// section". We read on. A made-up name counts the anonymous section as the first time.
fn opened_thrice(data: &[u8]) -> bool {
    let mut seen = HashMap::new();
    for placed in Commands::new(data).map_while(Result::ok) {
        if let Command::Config { name: Some(name), .. } = placed.command {
            let first = u32::from(name.starts_with("cfg"));
            *seen.entry(name).or_insert(first) += 1;
        }
    }
    seen.values().any(|times| *times >= 3)
}
