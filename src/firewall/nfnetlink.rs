//! The few things that are asked of nf_tables over netlink and not through `nft`: what must be
//! quick, or would take a process for one bit.

use std::io;

use super::conntrack::open;
use super::nftables_message::{self as message, Answer, Requests};
use super::ruleset::HEAL_TABLE;

/// `NFT_FLOWTABLE_HW_OFFLOAD`.
const HARDWARE: u32 = 1;

/// Deletes a table of family inet with all that is in it; fine when it is absent.
///
/// # Errors
/// The kernel's refusal.
pub fn delete_table(name: &str) -> io::Result<()> {
    match ask(&message::remove(libc::NFPROTO_INET as u8, name)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map(drop),
    }
}

/// Takes away what fw4 brought back (docs/contract.md); fine when it is absent.
///
/// # Errors
/// The kernel's refusal.
pub fn end_heal() -> io::Result<()> {
    delete_table(HEAL_TABLE)
}

/// Whether family inet has a table of this name.
///
/// # Errors
/// When the kernel does not say, or only to root.
pub fn has_table(name: &str) -> io::Result<bool> {
    match ask(&message::get_table(libc::NFPROTO_INET as u8, name)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        result => result.map(|answers| !answers.is_empty()),
    }
}

/// Flowtables that may hand flows to the network hardware ("TABLE NAME"), where packets pass no hook
/// at all: in every table, whoever made it. Empty where the kernel has no nf_tables.
///
/// # Errors
/// When the kernel does not list them.
pub fn hardware_flowtables() -> io::Result<Vec<String>> {
    match ask(&message::get_flowtables()) {
        Ok(answers) => Ok(in_hardware(answers)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn in_hardware(answers: Vec<Answer>) -> Vec<String> {
    let name = |answer| match answer {
        Answer::Flowtable { table, name, flags } if flags & HARDWARE != 0 => Some(format!("{table} {name}")),
        _ => None,
    };
    answers.into_iter().filter_map(name).collect()
}

/// What the kernel answers, up to its yes or no.
fn ask(requests: &Requests) -> io::Result<Vec<Answer>> {
    let socket = open()?;
    socket.send(requests.bytes())?;
    let (mut all, mut datagram) = (Vec::new(), Vec::new());
    loop {
        socket.datagram(&mut datagram)?;
        for answer in message::read(&datagram) {
            match answer {
                Answer::Done(_, 0) => return Ok(all),
                Answer::Done(_, errno) => return Err(io::Error::from_raw_os_error(errno)),
                other => all.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flowtables_for_hardware_are_named() {
        let flowtable = |flags| Answer::Flowtable { table: "fw4".into(), name: "ft".into(), flags };
        for (flags, named) in [(0, 0), (2, 0), (1, 1), (3, 1)] {
            let others = Answer::Table { flags: 1, owner: 0 };
            assert_eq!(in_hardware(vec![others, flowtable(flags)]), vec!["fw4 ft"; named], "{flags}");
        }
    }
}
