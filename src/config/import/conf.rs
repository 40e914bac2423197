//! Reading a wg-quick file.

use std::net::IpAddr;

use ipnet::IpNet;

use super::naming::{name_from_comment, name_from_file, unique};
use super::{Imported, Peer, PeerEndpoint};
use crate::config::names::{RelayName, WireguardKey};
use crate::config::problem::{Place, Problem, Report};
use crate::config::value::{self, Endpoint};
use crate::sorted::Set;

/// A provider's file has half a kilobyte.
pub const MAX_BYTES: usize = 256 * 1024;

const MISSING_KEY: &str = "is missing; a WireGuard key (32 bytes in base64) is needed";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    Interface,
    Peer,
    Unknown,
}

impl Part {
    fn title(self) -> &'static str {
        match self {
            Self::Before | Self::Unknown => "",
            Self::Interface => "[Interface]",
            Self::Peer => "[Peer]",
        }
    }
}

/// A `[Peer]` as far as it was read.
#[derive(Default)]
struct Draft {
    line: usize,
    comment: Option<String>,
    endpoint: Option<PeerEndpoint>,
    public_key: Option<WireguardKey>,
    preshared_key: Option<WireguardKey>,
    allowed_ips: Vec<IpNet>,
    seen: Set<&'static str>,
}

struct Reader {
    report: Report,
    part: Part,
    line: usize,
    interfaces: usize,
    seen: Set<&'static str>,
    private_key: Option<WireguardKey>,
    addresses: Vec<IpNet>,
    dns: Vec<IpAddr>,
    mtu: Option<u16>,
    peers: Vec<Draft>,
    /// The comment on the line just before this one.
    comment_above: Option<String>,
}

/// Reads the bytes of the file `file_name` (used in messages, and for a relay's name).
///
/// # Errors
/// Everything that is wrong with the file, at once. Never empty.
pub fn parse(file_name: &str, data: &[u8]) -> Result<Imported, Vec<Problem>> {
    let mut reader = Reader::new(file_name);
    if data.len() > MAX_BYTES {
        reader.complain("", "", "is larger than 256 KiB; that is no WireGuard configuration");
        return Err(reader.report.problems);
    }
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    for line in data.split(|&byte| byte == b'\n') {
        reader.line += 1;
        match std::str::from_utf8(line) {
            Ok(text) => reader.line(text),
            Err(_) => reader.complain("", "", "is no UTF-8 text; the file is damaged"),
        }
    }
    reader.finish(file_name)
}

impl Reader {
    fn new(file_name: &str) -> Self {
        let file = crate::config::problem::shown("", file_name.as_bytes());
        Self {
            report: Report::new(file),
            part: Part::Before,
            line: 0,
            interfaces: 0,
            seen: Set::new(),
            private_key: None,
            addresses: Vec::new(),
            dns: Vec::new(),
            mtu: None,
            peers: Vec::new(),
            comment_above: None,
        }
    }

    fn place<'p>(&self, option: &'p str, value: &'p str) -> Place<'p> {
        let section = self.part.title();
        Place { line: Some(self.line), section, option, value: value.as_bytes() }
    }
    fn complain(&mut self, option: &str, value: &str, message: &str) {
        let place = self.place(option, value);
        self.report.problem(place, message);
    }
    fn warn(&mut self, option: &str, value: &str, message: &str) {
        let place = self.place(option, value);
        self.report.warning(place, message);
    }

    fn line(&mut self, text: &str) {
        let (content, comment) = match text.split_once('#') {
            Some((content, comment)) => (content.trim(), Some(comment.trim())),
            None => (text.trim(), None),
        };
        let above = self.comment_above.take();
        if content.is_empty() {
            // A name stands above [Peer], or between it and its first key.
            match self.peers.last_mut() {
                Some(peer) if self.part == Part::Peer && peer.seen.is_empty() => {
                    peer.comment = peer.comment.take().or_else(|| comment.map(str::to_owned));
                }
                _ => {}
            }
            self.comment_above = comment.map(str::to_owned);
        } else if let Some(name) = content.strip_prefix('[') {
            self.section(name.trim_end_matches(']'), comment.map(str::to_owned).or(above));
        } else {
            match content.split_once('=') {
                Some((key, value)) if is_word(key.trim()) => self.pair(key.trim(), value.trim()),
                // Not shown: it may be a key that lost its name.
                _ if self.part == Part::Unknown => {}
                _ => self.complain("", "", "has a line that is no Key = value"),
            }
        }
    }

    fn section(&mut self, name: &str, comment: Option<String>) {
        if name.eq_ignore_ascii_case("interface") {
            self.part = Part::Interface;
            self.interfaces += 1;
            if self.interfaces > 1 {
                self.complain("", "", "is there twice; one is needed");
            }
        } else if name.eq_ignore_ascii_case("peer") {
            self.part = Part::Peer;
            self.peers.push(Draft { line: self.line, comment, ..Draft::default() });
        } else {
            self.part = Part::Before;
            let name = crate::config::problem::shown("", name.as_bytes());
            self.warn("", "", &format!("has a section [{name}] that is unknown and was not read"));
            self.part = Part::Unknown;
        }
    }

    fn pair(&mut self, key: &str, value: &str) {
        match self.part {
            Part::Unknown => {}
            Part::Before => {
                self.complain(key, "", "stands before [Interface]");
            }
            Part::Interface => self.interface(key, value),
            Part::Peer => self.peer(key, value),
        }
    }

    fn check<T>(&mut self, key: &str, value: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|message| self.complain(key, value, &message)).ok()
    }

    fn repeated(&mut self, key: &str) {
        self.complain(key, "", "is there twice; one is needed");
    }

    fn interface(&mut self, key: &str, value: &str) {
        let lower = key.to_ascii_lowercase();
        match lower.as_str() {
            "privatekey" => {
                if !self.seen.add("privatekey") {
                    self.repeated(key);
                }
                self.private_key = self.check(key, value, value::key(value));
            }
            "address" => {
                for word in words(value) {
                    let address = value::tunnel_address(word);
                    self.seen.add("address");
                    let address = self.check(key, word, address);
                    self.addresses.extend(address);
                }
            }
            "dns" => {
                for word in words(value) {
                    match value::host(word, false) {
                        Ok(address) => self.dns.push(address),
                        Err(message) if word.parse::<IpAddr>().is_ok() => {
                            self.complain(key, word, &message);
                        }
                        Err(_) => self.warn(key, word, "is a search domain; not taken over"),
                    }
                }
            }
            "mtu" => {
                // Whether it is enough for IPv6 is known once all addresses are.
                self.mtu = self.check(key, value, value::tunnel_mtu(value, &[]));
            }
            "preup" | "postup" | "predown" | "postdown" => {
                self.warn(key, "", "is not taken over: no command of an imported file is run");
            }
            "listenport" | "table" | "saveconfig" | "fwmark" => {
                self.warn(key, value, "is not taken over: vpnd decides that itself");
            }
            _ => self.warn(key, "", "is unknown and was not read"),
        }
    }

    fn peer(&mut self, key: &str, value: &str) {
        let lower = key.to_ascii_lowercase();
        let name = match lower.as_str() {
            "publickey" => "publickey",
            "presharedkey" => "presharedkey",
            "endpoint" => "endpoint",
            "allowedips" => "allowedips",
            "persistentkeepalive" => "persistentkeepalive",
            _ => "",
        };
        let first = self.peers.last_mut().is_some_and(|peer| peer.seen.add(name));
        if !first && !matches!(name, "" | "allowedips") {
            self.repeated(key);
        }
        match name {
            "publickey" => {
                let parsed = self.check(key, value, value::key(value));
                self.set(|peer| peer.public_key = parsed);
            }
            "presharedkey" => {
                let parsed = self.check(key, value, value::key(value));
                self.set(|peer| peer.preshared_key = parsed);
            }
            "endpoint" => {
                let parsed = self.check(key, value, endpoint(value));
                self.set(|peer| peer.endpoint = parsed);
            }
            "allowedips" => {
                for word in words(value) {
                    let parsed = self.check(key, word, value::prefix(word));
                    self.set(|peer| peer.allowed_ips.extend(parsed));
                }
            }
            "persistentkeepalive" => {
                if !value.eq_ignore_ascii_case("off") && value != "0" {
                    self.warn(key, value, "is not taken over: vpnd decides that itself");
                }
            }
            _ => self.warn(key, "", "is unknown and was not read"),
        }
    }

    fn set(&mut self, change: impl FnOnce(&mut Draft)) {
        if let Some(peer) = self.peers.last_mut() {
            change(peer);
        }
    }

    fn finish(mut self, file_name: &str) -> Result<Imported, Vec<Problem>> {
        self.part = Part::Interface;
        if self.interfaces == 0 {
            self.report.problem(Place::missing("[Interface]", ""), "is missing");
        } else {
            if !self.seen.contains_key("privatekey") {
                self.report.problem(Place::missing("[Interface]", "PrivateKey"), MISSING_KEY);
            }
            if !self.seen.contains_key("address") {
                self.report.problem(
                    Place::missing("[Interface]", "Address"),
                    "is missing; the address that the provider gave you is needed",
                );
            }
        }
        if self.peers.is_empty() {
            self.report.problem(Place::missing("[Peer]", ""), "is missing");
        }
        if let Some(text) = self.mtu.map(|mtu| mtu.to_string()) {
            let fits = value::tunnel_mtu(&text, &self.addresses);
            self.part = Part::Interface;
            self.mtu = self.check("MTU", &text, fits);
        }
        let drafts = std::mem::take(&mut self.peers);
        let mut taken = Set::new();
        let peers: Vec<Peer> =
            drafts.into_iter().filter_map(|draft| self.peer_of(draft, file_name, &mut taken)).collect();
        match self.private_key {
            Some(private_key) if self.report.problems.is_empty() => Ok(Imported {
                private_key,
                addresses: self.addresses,
                dns: self.dns,
                mtu: self.mtu,
                peers,
                warnings: self.report.warnings,
            }),
            _ => Err(self.report.problems),
        }
    }

    fn peer_of(&mut self, draft: Draft, file_name: &str, taken: &mut Set<RelayName>) -> Option<Peer> {
        for (name, key, message) in [
            ("publickey", "PublicKey", MISSING_KEY),
            ("endpoint", "Endpoint", "is missing; ADDRESS:PORT or NAME:PORT is needed"),
        ] {
            if !draft.seen.contains_key(name) {
                let place = Place { line: Some(draft.line), ..Place::missing("[Peer]", key) };
                self.report.problem(place, message);
            }
        }
        let name =
            draft.comment.as_deref().and_then(name_from_comment).unwrap_or_else(|| name_from_file(file_name));
        Some(Peer {
            name: unique(&name, taken)?,
            endpoint: draft.endpoint?,
            public_key: draft.public_key?,
            preshared_key: draft.preshared_key,
            allowed_ips: draft.allowed_ips,
        })
    }
}

/// Of the length that wg(8)'s own have: a bare WireGuard key ends in `=`, too, and must not be shown
/// as if it were a name.
fn is_word(text: &str) -> bool {
    (1..=24).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn endpoint(text: &str) -> Result<PeerEndpoint, String> {
    match value::endpoint(text)? {
        Endpoint::Name { host, port } => Ok(PeerEndpoint::Name { host, port }),
        Endpoint::Address(address) => match value::unfit(address.ip()) {
            Some(what) => Err(format!("is {what}; a relay on the internet is needed")),
            None => Ok(PeerEndpoint::Address(address)),
        },
    }
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}
