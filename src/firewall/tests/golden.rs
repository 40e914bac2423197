//! One text file per case: what `vpnd ruleset` prints. `UPDATE_GOLDEN=1` writes them anew.

use std::fs;
use std::path::PathBuf;

use crate::firewall::compile;
use crate::policy::{compose, samples};

#[test]
fn rulesets_read_as_written_down() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ruleset");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in samples::cases() {
        let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
        let text = compile(&policy).to_string();
        let path = folder.join(format!("{}.nft", case.name));
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            wrong.push(case.name);
        }
    }
    assert!(wrong.is_empty(), "these differ from tests/golden/ruleset: {wrong:?}");
}
