//! With the real nft and the real kernel, in a network namespace of each test's own. Needs root.
//! `VPND_NFT` names another nft to try.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::firewall::{Nft, Ruleset, compile};
use crate::policy::{compose, samples};

fn program() -> PathBuf {
    std::env::var_os("VPND_NFT").map_or_else(|| PathBuf::from("nft"), PathBuf::from)
}

/// Runs the test in a thread with a network namespace of its own.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: unshare(2) takes a number; it changes this thread only, which ends with the test.
        let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(done, 0, "needs root: {}", std::io::Error::last_os_error());
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn rulesets() -> Vec<(&'static str, Ruleset)> {
    let compiled = |case: samples::Case| {
        let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
        (case.name, compile(&policy))
    };
    samples::cases().into_iter().map(compiled).collect()
}

fn nft(args: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut command = Command::new(program());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_state_reads_back_in_full() {
    in_namespace(|| {
        let nft = Nft::new(program());
        for (name, ruleset) in rulesets() {
            let in_force = nft.apply(&ruleset).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(in_force.hash, ruleset.hash().unwrap(), "{name}");
            assert_eq!(nft.in_force().unwrap(), Some(in_force), "{name}");
            assert!(name.starts_with(in_force.state.as_str()), "{name}");
        }
        nft.remove().unwrap();
        assert_eq!(nft.in_force().unwrap(), None);
        nft.remove().unwrap();
    });
}

/// nft 1.0.6 lists a dormant table as an empty answer.
#[test]
fn a_table_that_cannot_be_listed_is_replaced() {
    in_namespace(|| {
        nft(&["add", "table", "inet", "vpnd", "{ flags dormant; }"], "");
        for (name, ruleset) in rulesets().into_iter().take(1) {
            let in_force = Nft::new(program()).apply(&ruleset).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(in_force.hash, ruleset.hash().unwrap(), "{name}");
        }
    });
}

#[test]
fn the_text_loads_to_the_same_rules() {
    in_namespace(|| {
        for (name, ruleset) in rulesets() {
            nft(&["-f", "-"], &ruleset.to_string());
            let in_force = Nft::new(program()).in_force().unwrap().unwrap();
            assert_eq!(in_force.hash, ruleset.hash().unwrap(), "{name}");
            let from_text = nft(&["list", "table", "inet", "vpnd"], "");
            nft(&["-j", "-f", "-"], &ruleset.to_json().unwrap());
            assert_eq!(from_text, nft(&["list", "table", "inet", "vpnd"], ""), "{name}");
        }
    });
}
