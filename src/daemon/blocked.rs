//! The last blocked packets, for `vpnd why`. In RAM only, few of them, and gone with the word that
//! opens: they say which device wanted to reach what (contract, section 5).

use std::net::IpAddr;
use std::time::Instant;

use crate::config::Lan;
use crate::control::{BlockedList, BlockedStatus};
use crate::firewall::nflog;
use crate::firewall::nflog_message::{Hook, Packet};
use crate::policy::reason::{Reason, Refused, Zone};
use crate::policy::{PolicyState, Row, TUNNEL_GROUP};
use crate::sorted;

/// Entries that are kept.
const MOST: usize = 64;

pub(super) struct Blocked {
    source: Option<nflog::Blocked>,
    trouble: Option<String>,
    list: List,
}

impl Blocked {
    pub fn new() -> Self {
        let mut blocked = Self { source: None, trouble: None, list: List::default() };
        blocked.listen();
        blocked
    }

    fn listen(&mut self) {
        match nflog::listen() {
            Ok(source) => (self.source, self.trouble) = (Some(source), None),
            Err(why) => self.trouble = Some(why),
        }
    }

    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The next packets. Safe to drop half-way; never ready where nothing can be heard.
    pub async fn next(&mut self) -> Vec<Packet> {
        loop {
            match &mut self.source {
                None => std::future::pending().await,
                Some(source) => match source.next().await {
                    Ok(packets) => return packets,
                    Err(error) => {
                        (self.source, self.trouble) = (None, Some(error.to_string()));
                    }
                },
            }
        }
    }

    pub fn note(&mut self, packets: &[Packet], state: Option<PolicyState>, lan: &Lan) {
        // Without a policy nothing is blocked: these are the last ones of a former one.
        let Some(state) = state else { return };
        let now = Instant::now();
        for packet in packets {
            self.list.note(Key::of(packet, state, lan, &device_name), now);
        }
    }

    pub fn forget(&mut self) {
        self.list = List::default();
    }

    /// For a person who asks; then it also tries again to hear.
    pub fn report(&mut self) -> BlockedList {
        if self.source.is_none() {
            self.listen();
        }
        BlockedList { blocked: self.list.report(Instant::now()), trouble: self.trouble.clone() }
    }
}

/// What packets of one entry have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    from: Zone,
    to: Zone,
    input: Option<String>,
    output: Option<String>,
    mac: Option<[u8; 6]>,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    port: Option<u16>,
    row: Row,
    state: PolicyState,
}

impl Key {
    fn of(packet: &Packet, state: PolicyState, lan: &Lan, name: &dyn Fn(u32) -> Option<String>) -> Self {
        let (input, output) = (packet.input.and_then(name), packet.output.and_then(name));
        let zone = |device: &Option<String>| match device.as_deref() {
            // A device that is gone by now was none of the configuration's.
            None => Zone::Wan,
            Some(name) if TUNNEL_GROUP.contains(&name) => Zone::Tunnel,
            Some(name) if lan.devices.iter().any(|lan| lan.name.as_str() == name) => Zone::Lan,
            Some(_) => Zone::Wan,
        };
        let from = if packet.input.is_none() { Zone::Router } else { zone(&input) };
        let to = match packet.hook {
            Hook::Input => Zone::Router,
            Hook::Prerouting => Zone::Nowhere,
            _ => zone(&output),
        };
        Self {
            from,
            to,
            input,
            output,
            mac: packet.mac,
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            port: packet.port,
            row: packet.row,
            state,
        }
    }

    /// Whose packets these are, when there are too many: a LAN host's, or a device's. Hosts on the
    /// WAN are nobody in particular.
    fn sender(&self) -> (Zone, Option<&str>, Option<[u8; 6]>, Option<IpAddr>) {
        let lan = self.from == Zone::Lan;
        let mac = self.mac.filter(|_| lan);
        (self.from, self.input.as_deref(), mac, Some(self.source).filter(|_| lan && mac.is_none()))
    }
}

struct Entry {
    key: Key,
    count: u64,
    first: Instant,
    last: Instant,
}

#[derive(Default)]
struct List(Vec<Entry>);

impl List {
    fn note(&mut self, key: Key, now: Instant) {
        if let Some(known) = self.0.iter_mut().find(|entry| entry.key == key) {
            known.count = known.count.saturating_add(1);
            known.last = now;
            return;
        }
        if self.0.len() >= MOST {
            self.make_room();
        }
        self.0.push(Entry { key, count: 1, first: now, last: now });
    }

    /// Of the sender that has most of them, the one not seen for longest goes: whoever scans ports
    /// hides its own packets, not those of the others.
    fn make_room(&mut self) {
        let entries_of = |sender| self.0.iter().filter(|entry| entry.key.sender() == sender).count();
        let victim = (0..self.0.len()).max_by_key(|at| {
            let entry = &self.0[*at];
            (entries_of(entry.key.sender()), std::cmp::Reverse(entry.last))
        });
        if let Some(victim) = victim {
            self.0.swap_remove(victim);
        }
    }

    fn report(&self, now: Instant) -> Vec<BlockedStatus> {
        let mut entries: Vec<&Entry> = self.0.iter().collect();
        sorted::sort_by(&mut entries, |a, b| b.last.cmp(&a.last));
        entries.into_iter().map(|entry| status(entry, now)).collect()
    }
}

fn status(entry: &Entry, now: Instant) -> BlockedStatus {
    let Key { from, to, input, output, mac, source, destination, protocol, port, row, state } =
        entry.key.clone();
    let Reason { why, remedy } = Refused { state, row, from, to, destination, protocol, port }.reason();
    let ago = |when| now.saturating_duration_since(when).as_secs();
    BlockedStatus {
        from,
        to,
        input,
        output,
        mac: mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
        source,
        destination,
        protocol,
        port,
        state,
        row: row.number().to_owned(),
        why,
        remedy,
        count: entry.count,
        first_s: ago(entry.first),
        last_s: ago(entry.last),
    }
}

/// None: there is none of that index, or its name is no UTF-8.
fn device_name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that if_indextoname(3) may write.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(name).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::LanDevice;

    fn packet(row: Row, hook: Hook, (input, output): (u32, u32), host: u8, port: u16) -> Packet {
        let device = |index| Some(index).filter(|index| *index != 0);
        Packet {
            row,
            hook,
            input: device(input),
            output: device(output),
            mac: Some([2, 0, 0, 0, 0, host]).filter(|_| input == 1),
            source: [192, 168, 1, host].into(),
            destination: [1, 1, 1, 1].into(),
            protocol: 17,
            port: Some(port),
        }
    }

    fn key(packet: &Packet) -> Key {
        let device = LanDevice { name: "br-lan".parse().unwrap(), prefixes: Vec::new(), forward: true };
        let lan = Lan { devices: vec![device], routes: Vec::new() };
        let names = |index| match index {
            1 => Some("br-lan".to_owned()),
            2 => Some("eth1".to_owned()),
            3 => Some("vpnd0".to_owned()),
            _ => None,
        };
        Key::of(packet, PolicyState::Connected, &lan, &names)
    }

    #[test]
    fn zones_are_told_by_hook_and_device() {
        let ways = [
            (Hook::Forward, (1, 3), Zone::Lan, Zone::Tunnel),
            (Hook::Forward, (1, 2), Zone::Lan, Zone::Wan),
            (Hook::Forward, (1, 9), Zone::Lan, Zone::Wan),
            (Hook::Prerouting, (1, 0), Zone::Lan, Zone::Nowhere),
            (Hook::Input, (2, 0), Zone::Wan, Zone::Router),
            (Hook::Output, (0, 2), Zone::Router, Zone::Wan),
            (Hook::Forward, (3, 1), Zone::Tunnel, Zone::Lan),
        ];
        for (hook, devices, from, to) in ways {
            let key = key(&packet(Row::Default, hook, devices, 20, 443));
            assert_eq!((key.from, key.to), (from, to), "{hook:?} {devices:?}");
        }
    }

    #[test]
    fn packets_alike_are_counted_and_the_latest_comes_first() {
        let (mut list, start) = (List::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let dns = packet(Row::Dns, Hook::Forward, (1, 3), 20, 53);
        list.note(key(&dns), at(0));
        list.note(key(&packet(Row::Default, Hook::Prerouting, (1, 0), 20, 443)), at(1));
        list.note(key(&dns), at(5));
        let report = list.report(at(7));
        assert_eq!(report.len(), 2);
        assert_eq!((report[0].row.as_str(), report[0].count), ("3.5", 2));
        assert_eq!((report[0].first_s, report[0].last_s), (7, 2));
        assert_eq!(report[0].mac.as_deref(), Some("02:00:00:00:00:14"));
        assert_eq!(report[0].remedy, "use the router as resolver, or list this one: list resolver '1.1.1.1'");
    }

    #[test]
    fn a_flood_hides_its_own_sender_only() {
        let (mut list, start) = (List::default(), Instant::now());
        list.note(key(&packet(Row::Dns, Hook::Forward, (1, 3), 20, 53)), start);
        for port in 0..10_000 {
            let now = start + Duration::from_millis(u64::from(port));
            // A LAN host, then hosts on the WAN with any address.
            list.note(key(&packet(Row::Default, Hook::Forward, (1, 2), 66, port)), now);
            list.note(key(&packet(Row::Default, Hook::Input, (2, 0), port as u8, port)), now);
        }
        assert_eq!(list.0.len(), MOST);
        assert!(list.0.capacity() <= MOST, "{}", list.0.capacity());
        let kept = list.0.iter().find(|entry| entry.key.row == Row::Dns);
        assert!(kept.is_some(), "the tv's one packet is still there");
        assert!(list.0.iter().any(|entry| entry.key.from == Zone::Wan));
    }
}
