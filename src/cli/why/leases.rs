//! Names of LAN devices, as they told dnsmasq's DHCP server. Pure but for reading the file.

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

/// Where OpenWrt's dnsmasq keeps them.
pub const DEFAULT: &str = "/tmp/dhcp.leases";
/// Bytes that are read of it, and characters that are shown of a name (RFC 1035: a label has 63).
const MOST: u64 = 256 * 1024;
const LONGEST: usize = 63;

/// Each line of the file that names a host.
#[derive(Debug, Default)]
pub struct Leases(Vec<Lease>);

#[derive(Debug)]
struct Lease {
    /// In lower case; an IPv6 lease has a number here, which equals no Ethernet address.
    mac: String,
    address: IpAddr,
    name: String,
}

impl Leases {
    /// A file that is not there, or makes no sense, names nobody.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
        if read.is_err() {
            return Self::default();
        }
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Lines are `EXPIRY MAC ADDRESS NAME CLIENT-ID` (dnsmasq's lease.c); no name is `*`.
    fn parse(text: &str) -> Self {
        let lease = |line: &str| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let (mac, address, name) = (words.next()?, words.next()?, words.next()?);
            let (mac, address) = (mac.to_ascii_lowercase(), address.parse().ok()?);
            (name != "*").then(|| Lease { mac, address, name: harmless(name) })
        };
        Self(text.lines().filter_map(lease).collect())
    }

    /// By address, or else by the Ethernet address: an IPv6 address that a host chose for itself
    /// has no lease.
    #[must_use]
    pub fn name(&self, address: IpAddr, mac: Option<&str>) -> Option<&str> {
        let by_address = self.0.iter().find(|lease| lease.address == address);
        let by_mac = || self.0.iter().find(|lease| mac == Some(lease.mac.as_str()));
        by_address.or_else(by_mac).map(|lease| lease.name.as_str())
    }

    /// The address of the host that calls itself so.
    #[must_use]
    pub fn address(&self, name: &str, v4: bool) -> Option<IpAddr> {
        let called = |lease: &&Lease| lease.name == name && lease.address.is_ipv4() == v4;
        self.0.iter().find(called).map(|lease| lease.address)
    }
}

/// The name comes from whoever asked for a lease.
fn harmless(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '?' };
    name.chars().take(LONGEST).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "1790000000 02:00:00:00:00:AA 192.168.1.20 tv 01:02:00:00:00:00:aa\n\
        1790000000 02:00:00:00:00:bb 192.168.1.21 * *\n\
        garbage\n\
        1790000000 02:00:00:00:00:cc not-an-address x *\n\
        1790000000 02:00:00:00:00:dd 192.168.1.22 \u{1b}[2J\u{202e}<script>$(id) *\n\
        duid 00:01:00:01\n\
        1790000000 12345 fd00:1::20 laptop 00:01:00:01\n";

    #[test]
    fn a_name_is_found_by_address_or_by_ethernet_address() {
        let leases = Leases::parse(FILE);
        let name = |address: &str, mac| leases.name(address.parse().unwrap(), mac);
        assert_eq!(name("192.168.1.20", None), Some("tv"));
        assert_eq!(name("fd00:1::99", Some("02:00:00:00:00:aa")), Some("tv"));
        assert_eq!(name("fd00:1::20", None), Some("laptop"));
        assert_eq!(name("192.168.1.21", Some("02:00:00:00:00:bb")), None);
        assert_eq!(name("192.168.1.99", None), None);
        assert_eq!(leases.address("tv", true), Some([192, 168, 1, 20].into()));
        assert_eq!(leases.address("tv", false), None);
        assert_eq!(leases.address("laptop", false), Some("fd00:1::20".parse().unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics_or_names_what_a_terminal_obeys(text in "(.{0,20}[ \n]){0,40}") {
            for lease in Leases::parse(&text).0 {
                assert!(lease.name.len() <= LONGEST && lease.name.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }

    #[test]
    fn a_hostile_name_is_harmless() {
        let leases = Leases::parse(FILE);
        let name = leases.name("192.168.1.22".parse().unwrap(), None).unwrap();
        assert_eq!(name, "??2J??script???id?");
        let long = format!("1 02:00:00:00:00:01 192.168.1.9 {} *\n", "a".repeat(5000));
        let leases = Leases::parse(&long);
        assert_eq!(leases.name("192.168.1.9".parse().unwrap(), None).unwrap().len(), LONGEST);
    }
}
