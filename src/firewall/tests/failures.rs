//! An nft that fails, hangs, lies or dies: the former policy stays, and the error says so. The
//! false nft is a shell script in front of the real one. Needs root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::kernel::in_namespace;
use crate::daemon::enforce;
use crate::firewall::{Error, InForce, Nft, Ruleset, compile};
use crate::policy::{Policy, PolicyState, Stance, compose, samples};
use crate::state::RunDir;

const LIMIT: Duration = Duration::from_secs(2);

/// A folder of the test's own with a script that stands in for nft. `$load` is 1 for a
/// transaction, `$times` counts the calls of the same kind; `nft` is the real one.
pub struct FalseNft {
    folder: PathBuf,
}

impl FalseNft {
    pub fn new(name: &str, behaviour: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("vpnd-false-nft-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let script = format!(
            "#!/bin/sh\n\
             cd \"${{0%/*}}\" || exit 99\n\
             case \"$*\" in *'-f -'*) load=1;; *'list table inet'*) load=0;; *) exec nft \"$@\";; esac\n\
             echo >>calls.$load; times=$(wc -l <calls.$load)\n\
             {behaviour}\n\
             exec nft \"$@\"\n"
        );
        let path = folder.join("nft");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Self { folder }
    }

    /// With time enough also on a busy machine.
    pub fn patient(&self) -> Nft {
        Nft::new(self.folder.join("nft")).keeping(recorded())
    }

    pub fn nft(&self) -> Nft {
        Nft::with_limit(self.folder.join("nft"), LIMIT).keeping(recorded())
    }
}

impl Drop for FalseNft {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn blocked_policy() -> Policy {
    compose(&Stance::Blocked { api: false }, &samples::plain(), &samples::plain_facts()).unwrap()
}

fn connected_policy() -> Policy {
    compose(&samples::connected("203.0.113.1:51820"), &samples::full(), &samples::full_facts()).unwrap()
}

fn blocked() -> Ruleset {
    compile(&blocked_policy())
}

fn connected() -> Ruleset {
    compile(&connected_policy())
}

fn in_kernel() -> Option<InForce> {
    Nft::new(PathBuf::from("nft")).in_force().unwrap()
}

fn recorded() -> Option<String> {
    in_kernel().map(|in_force| in_force.hash.to_string())
}

/// Blocked is in force by the real nft; then the false one is asked for connected.
fn after_blocked(name: &'static str, behaviour: &'static str, then: fn(Result<InForce, Error>)) {
    in_namespace(move || {
        let real = Nft::new(PathBuf::from("nft"));
        let program = FalseNft::new(name, behaviour);
        let run = RunDir::new(program.folder.join("run"));
        let (before, first) = enforce::enforce(&real, &run, &blocked_policy(), "before").unwrap();
        assert_eq!((before.state, first), (PolicyState::Blocked, Some(1)));
        let result = enforce::enforce(&program.nft(), &run, &connected_policy(), "after");
        let result = result.map(|(in_force, _)| in_force);
        let failed = result.is_err();
        then(result);
        let noted: Vec<_> = run.generations().into_iter().map(|g| (g.number, g.hash, g.cause)).collect();
        let generation =
            |number, hash: &InForce, cause: &str| (number, hash.hash.to_string(), cause.to_owned());
        if failed {
            assert_eq!(in_kernel(), Some(before), "the former policy stays");
            assert_eq!(noted, [generation(1, &before, "before")], "what is not in force is no generation");
        } else {
            let after = in_kernel().unwrap();
            assert_eq!(noted, [generation(1, &before, "before"), generation(2, &after, "after")]);
        }
    });
}

#[test]
fn a_refusal_changes_nothing() {
    after_blocked("refuses", "[ $load = 1 ] && { echo no >&2; exit 1; }", |result| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Refused { code: 1, .. }), "{error}");
        assert!(error.to_string().contains("no"), "{error}");
    });
}

#[test]
fn a_hanging_nft_is_killed_with_its_children() {
    let started = Instant::now();
    after_blocked("hangs", "[ $load = 1 ] && { sleep 60; exit 0; }", |result| {
        assert!(matches!(result.unwrap_err(), Error::TimedOut { .. }));
    });
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn one_that_hangs_after_the_commit_has_done_it() {
    after_blocked("late", "[ $load = 1 ] && { nft \"$@\"; sleep 60; }", |result| {
        assert_eq!(result.unwrap().state, PolicyState::Connected);
        assert_eq!(in_kernel().unwrap().hash, connected().hash().unwrap());
    });
}

#[test]
fn a_killed_nft_changes_nothing() {
    after_blocked("killed", "[ $load = 1 ] && kill -9 $$", |result| {
        assert!(matches!(result.unwrap_err(), Error::Killed { .. }));
    });
}

#[test]
fn one_that_does_nothing_and_says_it_did_is_found_out() {
    after_blocked("idle", "[ $load$times = 11 ] && exit 0", |result| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Differs { .. }), "{error}");
        assert!(error.to_string().contains("is missing"), "{error}");
    });
}

#[test]
fn a_rule_too_many_is_taken_back() {
    let adds = "[ $load$times = 11 ] && { nft \"$@\"; exec nft add rule inet vpnd forward accept; }";
    after_blocked("adds", adds, |result| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Differs { .. }), "{error}");
        assert!(error.to_string().contains("chain forward, line"), "{error}");
    });
}

#[test]
fn an_open_policy_is_taken_back() {
    let opens = "[ $load$times = 11 ] && { nft \"$@\"; \
                 exec nft 'add chain inet vpnd forward { policy accept; }'; }";
    after_blocked("opens", opens, |result| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Differs { .. }), "{error}");
        assert!(error.to_string().contains("should be"), "{error}");
    });
}

#[test]
fn garbage_instead_of_a_listing_is_an_error() {
    // The first listing is the former policy's, the second is the check, the third is after
    // putting back.
    for (name, garbage) in [
        ("text", "echo '{\"nftables\": [}'"),
        ("deep", "head -c 100000 /dev/zero | tr '\\0' '['"),
        ("bytes", "head -c 5000 /dev/urandom"),
        ("nothing", ":"),
        ("other", "echo '{\"nftables\": [{\"rule\": 3}, [], {\"chain\": {\"name\": 1}}]}'"),
        ("wrong", "echo '{\"nftables\": {\"rule\": 3}}'"),
        ("tables", "exit 1"),
    ] {
        in_namespace(move || {
            let before = Nft::new(PathBuf::from("nft")).apply(&blocked()).unwrap();
            let behaviour = format!("[ $load$times = 02 ] && {{ {garbage}; exit 0; }}");
            let program = FalseNft::new(name, &behaviour);
            let error = program.nft().apply(&connected()).unwrap_err();
            assert!(matches!(&error, Error::Differs { .. }), "{name}: {error}");
            assert_eq!(in_kernel(), Some(before), "{name}");
        });
    }
}

#[test]
fn when_putting_back_fails_too_the_error_says_that_nothing_is_known() {
    in_namespace(|| {
        let adds = "[ $load = 1 ] && { nft \"$@\"; exec nft add rule inet vpnd forward accept; }";
        Nft::new(PathBuf::from("nft")).apply(&blocked()).unwrap();
        let program = FalseNft::new("always-adds", adds);
        let error = program.nft().apply(&connected()).unwrap_err();
        assert!(matches!(&error, Error::Unknown { .. }), "{error}");
    });
}

/// Of a dump that breaks off, nft lists what it has, and ends well: that must not be put back as the
/// former policy, which would be chains without rules.
#[test]
fn a_part_of_the_former_policy_is_not_put_back() {
    in_namespace(|| {
        Nft::new(PathBuf::from("nft")).apply(&blocked()).unwrap();
        let whole = in_kernel().unwrap();
        let program =
            FalseNft::new("cuts", "[ $load = 0 ] && { nft \"$@\" | sed 's/, {\"rule\": .*$/]}/'; exit 0; }");
        let cut = program.nft().in_force().unwrap().unwrap();
        assert_ne!(cut.hash, whole.hash, "control: it cuts, and nobody hears of it");
        let error = program.nft().apply(&connected()).unwrap_err();
        assert!(matches!(&error, Error::Unknown { .. }), "{error}");
        assert_eq!(
            in_kernel().unwrap().hash,
            connected().hash().unwrap(),
            "the new rules are whole at least"
        );
    });
}

#[test]
fn with_nothing_before_a_failure_opens_nothing() {
    in_namespace(|| {
        let adds = "[ $load$times = 11 ] && { nft \"$@\"; exec nft add chain inet vpnd more; }";
        let program = FalseNft::new("from-open", adds);
        let error = program.nft().apply(&blocked()).unwrap_err();
        assert!(matches!(&error, Error::Unknown { .. }), "{error}");
        assert_eq!(in_kernel().unwrap().state, PolicyState::Blocked);
    });
}

#[test]
fn a_missing_program_is_named() {
    let nft = Nft::new(Path::new("/nowhere/nft").to_owned());
    for error in [nft.apply(&blocked()).unwrap_err(), nft.remove().unwrap_err()] {
        assert!(matches!(&error, Error::Start { .. }), "{error}");
        assert!(error.to_string().contains("/nowhere/nft"), "{error}");
    }
    in_namespace(move || {
        // Whether there is a table the kernel says; what is in it only nft can.
        assert_eq!(nft.in_force().unwrap(), None);
        Nft::new(PathBuf::from("nft")).apply(&blocked()).unwrap();
        assert!(matches!(nft.in_force(), Err(Error::Start { .. })));
    });
}

#[test]
fn a_refused_removal_leaves_the_rules() {
    in_namespace(|| {
        let before = Nft::new(PathBuf::from("nft")).apply(&blocked()).unwrap();
        let program = FalseNft::new("keeps", "[ $load = 1 ] && exit 1");
        assert!(program.nft().remove().is_err());
        assert_eq!(in_kernel(), Some(before));
    });
}

/// A kernel without nfnetlink_log: what is blocked is not told of, but blocked.
#[test]
fn a_kernel_that_cannot_log_blocks_all_the_same() {
    in_namespace(|| {
        let cannot = "[ $load = 1 ] && { cat >in; grep -q '\"log\"' in && { echo no log >&2; exit 1; }; \
                      exec nft \"$@\" <in; }";
        let program = FalseNft::new("mute", cannot);
        let nft = program.nft();
        assert!(!nft.mute());
        let in_force = nft.apply(&connected()).unwrap();
        assert_eq!(in_kernel(), Some(in_force));
        assert_eq!(in_force.hash, connected().without_log().hash().unwrap());
        assert!(nft.mute() && in_force.hash != connected().hash().unwrap(), "control: the rules differ");
        // Known from now on: one transaction.
        let loads = || fs::read_to_string(program.folder.join("calls.1")).unwrap().lines().count();
        let before = loads();
        nft.apply(&blocked()).unwrap();
        assert_eq!(loads() - before, 1);
        assert_eq!(in_kernel().unwrap().state, PolicyState::Blocked);
    });
}
