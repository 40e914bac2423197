//! Netlink calls that fail, one after the other, under a flood. The daemon's own: each fails once,
//! nothing unlisted leaves, and the daemon still gets where it is wanted. Those of the nft it runs:
//! each fails at every run, and the policy of before stays for as long as that lasts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use super::{Way, expect};
use crate::flood::Flood;
use crate::suite::Late;
use crate::town::{LONG, Town};

/// A kind of system call and the error it is made to end with (strace's `inject`).
pub(crate) struct Call {
    pub name: &'static str,
    whose: Whose,
    calls: &'static str,
    error: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Daemon,
    Nft,
}

const fn call(name: &'static str, whose: Whose, calls: &'static str, error: &'static str) -> Call {
    Call { name, whose, calls, error }
}

static CALLS: [Call; 4] = [
    call("netlink request of the daemon fails once", Whose::Daemon, "sendto,sendmsg", "ENOBUFS"),
    call("netlink answer to the daemon fails once", Whose::Daemon, "recvfrom,recvmsg", "EIO"),
    call("netlink request of nft fails every time", Whose::Nft, "sendto,sendmsg", "ENOBUFS"),
    call("netlink answer to nft fails every time", Whose::Nft, "recvfrom,recvmsg", "EIO"),
];

/// All four (`HOME_ALL` set), or one of the daemon's and one of nft's that the seed chooses. By other
/// bits than the lowest, which chooses the kernel: each kind comes to each of them.
pub(crate) fn calls(seed: u64) -> Vec<&'static Call> {
    if std::env::var_os("HOME_ALL").is_some() {
        return CALLS.iter().collect();
    }
    vec![&CALLS[(seed / 2 % 2) as usize], &CALLS[2 + (seed / 4 % 2) as usize]]
}

/// About as many calls as a daemon makes on its way to a tunnel. On a slow machine there are more, as
/// the kernel tells of more meanwhile: those are not tried.
const MOST: u32 = 400;

/// Fails the calls one after the other, each with a daemon of its own that starts on a router
/// which is armed, blocked by the boot policy and wants a tunnel: of the daemon's every tenth, and in
/// a shorter run (`HOME_ALL` unset) every 47th. Which ones the seed says, so that ten seeds try all,
/// and the kernel, so that two do not try the same (a daemon makes some 350 calls on its way, and each
/// takes a start of a quarter of a minute).
pub(crate) fn each(town: &mut Town, call: &Call, seed: u64) -> Result<String> {
    let stride = match (call.whose, std::env::var_os("HOME_ALL").is_some()) {
        (Whose::Daemon, true) => 10,
        (Whose::Daemon, false) => 47,
        // It makes some 45.
        (Whose::Nft, true) => 5,
        (Whose::Nft, false) => 23,
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: u64 = release.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    // Of the kernels that the tests run on one has an odd minor number.
    let first = seed + kernel % 2 * (stride / 2);
    let mut failed = 0;
    let mut flown = 0;
    let mut restarts = 0;
    let mut number = 1 + (first % stride) as u32;
    while number < MOST {
        let (struck, sent, ended) = once(town, call, number).or_else(|error| {
            if !error.is::<Late>() {
                return Err(error);
            }
            println!("     late, this call tried once more: {error:#}\n    log: {}", town.log());
            // A second time is no accident.
            once(town, call, number).map_err(|error| anyhow!("{error:#}"))
        })?;
        if !struck {
            break;
        }
        failed += 1;
        flown += sent;
        restarts += ended;
        number += stride as u32;
    }
    ensure!(failed > 0, "not one call was made to fail");
    Ok(format!(
        "{failed} calls failed, one a start; {restarts} ended the daemon, which was started again; \
         {flown} LAN packets flew meanwhile"
    ))
}

/// Whether call `number` was reached, how many LAN packets flew, and how often the daemon ended.
fn once(town: &mut Town, call: &Call, number: u32) -> Result<(bool, u32, u32)> {
    town.fresh()?;
    town.config.write(&town.dir.join("config"))?;
    fs::create_dir_all(town.dir.join("state"))?;
    fs::write(town.dir.join("state/wanted.json"), r#"{"connect":true,"relay":null,"lockdown":null}"#)?;
    fs::write(town.dir.join("state/armed"), "")?;
    town.does(&["block"])?;
    let log = town.dir.join("strace");
    let _ = fs::remove_file(&log);
    town.wrapper = wrapper(town, call, number, &log)?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    let mut restarts = 0;
    let arrived = town.start_as_it_is().or_else(|error| as_procd_would(town, error, &mut restarts));
    let arrived = arrived.and_then(|()| match call.whose {
        Whose::Daemon => match town.until_word("connected", LONG) {
            Err(error) => {
                as_procd_would(town, error, &mut restarts).and_then(|()| town.until_word("connected", LONG))
            }
            Ok(()) => Ok(()),
        },
        Whose::Nft => town.until("nft has failed, or all is well", LONG, |town| {
            Ok(injected(&log) || town.word()?.0 == "connected")
        }),
    });
    let struck = injected(&log);
    let rules = town.house.router.run("nft", &["list", "table", "inet", "vpnd"]);
    let flown = flood.stop(&town.wan, position)?;
    let context = || format!("{}, number {number}", call.name);
    arrived.map_err(|error| error.context(context()))?;
    town.judged(position, &town.tunnelled_or_blocked()).map_err(|e| e.context(context()))?;
    let rules = rules.map_err(|error| error.context(context()))?;
    if call.whose == Whose::Daemon {
        ensure!(rules.contains("state_connected"), "{}: the table is another's", context());
        let relay = town.relay()?.trim_start_matches('r').parse::<usize>().map_err(anyhow::Error::from)?;
        expect(&town.house.tv, Way::Relay(relay - 1)).map_err(|e| e.context(context()))?;
    } else {
        ensure!(rules.contains("chain state_"), "{}: no policy is left", context());
    }
    Ok((struck, flown.lan, restarts))
}

/// A daemon that ended is started again, untraced; one that runs has failed with `error`.
fn as_procd_would(town: &mut Town, error: anyhow::Error, restarts: &mut u32) -> Result<()> {
    if !town.has_ended()? {
        return Err(error);
    }
    *restarts += 1;
    town.wrapper.clear();
    town.start_as_it_is()
}

fn injected(log: &Path) -> bool {
    fs::read_to_string(log).unwrap_or_default().contains("(INJECTED)")
}

/// The words before the daemon.
fn wrapper(town: &Town, call: &Call, number: u32, log: &Path) -> Result<Vec<String>> {
    let log = log.display();
    // --raw: to decode a netlink message strace asks the kernel itself, each time by way of a
    // module loader's run: minutes, in which the traced daemon stands still.
    let trace = format!(
        "-qq --raw={0} -A -o {log} --trace={0} --inject={0}:error={1}:when={number}",
        call.calls, call.error
    );
    if call.whose == Whose::Daemon {
        // Not -f: the daemon's own loop is its first thread, and nft is not meant here. -D: the
        // daemon stays this program's child.
        return Ok(format!("strace -D {trace}").split_whitespace().map(str::to_owned).collect());
    }
    // For the daemon alone, nft is one that is traced: in a mount namespace of its own.
    let nft = town.house.router.run("sh", &["-c", "command -v nft"])?;
    let (nft, dir) = (nft.trim(), town.dir.join("nft-bin"));
    fs::create_dir_all(&dir)?;
    let (real, traced) = (dir.join("real"), dir.join("traced"));
    fs::copy(nft, &real)?;
    fs::write(&traced, format!("#!/bin/sh\nexec strace {trace} {} \"$@\"\n", real.display()))?;
    fs::set_permissions(&traced, fs::Permissions::from_mode(0o755))?;
    let script = format!("mount --bind {} {nft} && exec \"$@\"", traced.display());
    Ok(["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec())
}
