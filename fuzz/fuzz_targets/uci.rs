//! The UCI reader: what libuci says of any bytes, without a panic, in bounded memory.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use uci_oracle::{Agreement, Folder, Tree};
use vpnd::config::uci;
use vpnd_fuzz::bounded;

thread_local! {
    static FOLDER: RefCell<Option<Folder>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    // A section of one letter costs the most: its words, its place in two tables, and a name that
    // libuci would make up.
    let package = bounded(data.len(), 200, 4096, || uci::parse(data));
    let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
    match &package {
        Ok(package) => assert!(package.sections.iter().all(|section| (1..=lines).contains(&section.line))),
        Err(fault) => assert!((1..=lines).contains(&fault.line), "line {} of {lines}", fault.line),
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| Folder::new().expect("a temporary folder"));
        match uci_oracle::compare(folder, data, package.map(Tree::from)) {
            Agreement::Accepted | Agreement::Refused | Agreement::Exempt => {}
            Agreement::Differs(how) => panic!("{how}"),
        }
    });
});
