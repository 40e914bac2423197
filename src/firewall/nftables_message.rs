//! Messages to and from nf_tables (linux/netfilter/nfnetlink.h and nf_tables.h), as far as it is not
//! spoken to through `nft`; how they are answered: net/netfilter/nfnetlink.c and nf_tables_api.c.
//! Pure.

use crate::netlink::attribute::{attributes, be32, number, string, text};
use crate::netlink::{Message, message, messages};

/// linux/netfilter/nfnetlink.h.
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
/// `enum nf_tables_msg_types`.
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_FLOWTABLE: u16 = SUBSYSTEM | 22;
const GET_FLOWTABLE: u16 = SUBSYSTEM | 23;

/// `struct nfgenmsg`.
const GENERIC_HEADER: usize = 4;

/// What the message that names a table's flags is about.
pub const NEWTABLE: &str = "adding the table";

/// What a datagram of requests is made of.
#[derive(Default)]
pub struct Requests {
    bytes: Vec<u8>,
    /// What each message is about, by its sequence number from 1.
    about: Vec<&'static str>,
}

impl Requests {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the message of this sequence number tries.
    pub fn about(&self, sequence: u32) -> &'static str {
        let at = (sequence as usize).checked_sub(1);
        at.and_then(|at| self.about.get(at)).copied().unwrap_or("the batch")
    }

    /// `family` and `resource`: `struct nfgenmsg`.
    fn add(
        &mut self,
        what: &'static str,
        kind: u16,
        flags: i32,
        (family, resource): (u8, u16),
        payload: &[u8],
    ) {
        self.about.push(what);
        let [high, low] = resource.to_be_bytes();
        let body = [&[family, 0, high, low], payload].concat();
        message::put(&mut self.bytes, kind, flags, self.about.len() as u32, &body);
    }

    /// Makes a table that nobody has.
    pub fn add_table(&mut self, family: u8, table: &str, flags: u32) {
        let mut payload = name(table);
        number(&mut payload, 2, flags);
        self.add(NEWTABLE, NEW_TABLE, libc::NLM_F_CREATE | libc::NLM_F_ACK, (family, 0), &payload);
    }

    pub fn delete_table(&mut self, family: u8, table: &str) {
        self.add("deleting the table", DELETE_TABLE, libc::NLM_F_ACK, (family, 0), &name(table));
    }

    /// `payload`: `enum nft_chain_attributes`.
    pub fn add_chain(&mut self, family: u8, payload: &[u8]) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK;
        self.add("adding a chain", NEW_CHAIN, flags, (family, 0), payload);
    }

    /// Behind those that the chain has. `payload`: `enum nft_rule_attributes`.
    pub fn add_rule(&mut self, family: u8, payload: &[u8]) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND | libc::NLM_F_ACK;
        self.add("adding a rule", NEW_RULE, flags, (family, 0), payload);
    }

    /// One transaction.
    pub fn batch(inside: impl FnOnce(&mut Self)) -> Self {
        let mut requests = Self::default();
        let tables = (0, libc::NFNL_SUBSYS_NFTABLES as u16);
        requests.add("the batch", BATCH_BEGIN, 0, tables, &[]);
        inside(&mut requests);
        requests.add("the batch", BATCH_END, 0, tables, &[]);
        requests
    }
}

/// One transaction that deletes a table that is there.
pub fn remove(family: u8, table: &str) -> Requests {
    Requests::batch(|requests| requests.delete_table(family, table))
}

/// Asks for one table.
pub fn get_table(family: u8, table: &str) -> Requests {
    let mut requests = Requests::default();
    requests.add("looking at the table", GET_TABLE, libc::NLM_F_ACK, (family, 0), &name(table));
    requests
}

/// Asks for all chains of a family.
pub fn get_chains(family: u8) -> Requests {
    let mut requests = Requests::default();
    requests.add("listing chains", GET_CHAIN, libc::NLM_F_DUMP, (family, 0), &[]);
    requests
}

/// Asks for all flowtables of every family.
pub fn get_flowtables() -> Requests {
    let mut requests = Requests::default();
    requests.add("listing flowtables", GET_FLOWTABLE, libc::NLM_F_DUMP, (0, 0), &[]);
    requests
}

/// Attribute 1 of tables, chains, rules and flowtables alike: the table's name.
pub fn name(table: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    string(&mut payload, 1, table);
    payload
}

/// What the kernel answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Sequence number; 0 or an errno.
    Done(u32, i32),
    Table {
        flags: u32,
        /// Netlink port; 0: nobody.
        owner: u32,
    },
    Chain {
        table: String,
        device: Option<String>,
    },
    Flowtable {
        table: String,
        name: String,
        /// `enum nft_flowtable_flags`.
        flags: u32,
    },
}

/// What a datagram says, up to the first malformed message.
pub fn read(bytes: &[u8]) -> Vec<Answer> {
    messages(bytes).filter_map(|message| answer(&message)).collect()
}

fn answer(message: &Message<'_>) -> Option<Answer> {
    let own = message.body.get(GENERIC_HEADER..).unwrap_or_default();
    match message.kind {
        NEW_TABLE => Some(table(own)),
        NEW_CHAIN => Some(chain(own)),
        NEW_FLOWTABLE => Some(flowtable(own)),
        _ => message.end().map(|code| Answer::Done(message.sequence, code)),
    }
}

fn table(bytes: &[u8]) -> Answer {
    let (mut flags, mut owner) = (0, 0);
    for (kind, value) in attributes(bytes) {
        match kind {
            2 => flags = be32(value).unwrap_or(0),
            7 => owner = be32(value).unwrap_or(0),
            _ => {}
        }
    }
    Answer::Table { flags, owner }
}

fn chain(bytes: &[u8]) -> Answer {
    let (mut table, mut device) = (String::new(), None);
    for (kind, value) in attributes(bytes) {
        match kind {
            1 => table = text(value),
            4 => {
                let dev = |(kind, value)| (kind == 3).then(|| text(value));
                device = attributes(value).find_map(dev);
            }
            _ => {}
        }
    }
    Answer::Chain { table, device }
}

/// `enum nft_flowtable_attributes`.
fn flowtable(bytes: &[u8]) -> Answer {
    let (mut table, mut name, mut flags) = (String::new(), String::new(), 0);
    for (kind, value) in attributes(bytes) {
        match kind {
            1 => table = text(value),
            2 => name = text(value),
            7 => flags = be32(value).unwrap_or(0),
            _ => {}
        }
    }
    Answer::Flowtable { table, name, flags }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_datagram_is_read_message_by_message() {
        let mut payload = name("fw4");
        string(&mut payload, 2, "ft");
        number(&mut payload, 7, 3);
        let mut datagram = Requests::default();
        datagram.add("", NEW_FLOWTABLE, 0, (1, 0), &name("fw4"));
        datagram.add("", NEW_FLOWTABLE, 0, (1, 0), &payload);
        let flowtable =
            |name: &str, flags| Answer::Flowtable { table: "fw4".into(), name: name.into(), flags };
        assert_eq!(read(datagram.bytes()), [flowtable("", 0), flowtable("ft", 3)]);
        // Cut off anywhere: the whole ones before.
        let whole = datagram.bytes().len();
        for length in 0..whole {
            assert!(read(&datagram.bytes()[..length]).len() < 2, "{length} of {whole} bytes");
        }
    }

    #[test]
    fn an_answer_says_yes_or_why_not() {
        let answer = |code: i32| {
            let mut bytes = 20_u32.to_ne_bytes().to_vec();
            bytes.extend((libc::NLMSG_ERROR as u16).to_ne_bytes());
            bytes.extend([0; 2]);
            bytes.extend(7_u32.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(code.to_ne_bytes());
            read(&bytes)
        };
        assert_eq!(answer(0), [Answer::Done(7, 0)]);
        assert_eq!(answer(-libc::ENOENT), [Answer::Done(7, libc::ENOENT)]);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = read(&bytes);
        }
    }
}
