//! The sections of `/etc/config/firewall` that are vpnd's. Pure.
//!
//! vpnd's own table only takes away: what fw4 refuses stays refused, so fw4 has to be told what is
//! wanted. Nothing of the owner's is changed; every section here has a name that begins with
//! [`OWN_SECTIONS`](crate::config::OWN_SECTIONS), and without them the file is what it was.

use ipnet::IpNet;

use crate::config::uci::{NewSection, NewValue, Section};
use crate::config::{FirewallZone, OWN_SECTIONS as PREFIX, PortProto, Settings, ZoneSide};

/// The tunnel's zone. fw4 makes chains of it (`input_vpnd`).
const ZONE: &str = "vpnd";
/// `files/usr/share/vpnd/way-out` knows these sections by them.
const CLOSED: &str = "closed";
const DNS: &str = "dns";

/// Of the package: what fw4 brings back in its own transaction while armed. fw4 passes over a file that is not
/// there (fw4.uc, `parse_include`), and loads nothing at all where nft refuses one.
pub const HEAL: &str = "/usr/share/vpnd/heal.nft";
/// What that file lets pass by its destination, besides multicast.
const NEVER_THE_INTERNET: [&str; 7] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
    "fe80::/10",
];

/// What comes after it, before a number.
const LABELS: [&str; 9] =
    ["zone", "forwarding", "tunnel", "forward", "allowed", "multicast", "igmp", CLOSED, DNS];

fn label(section: &Section) -> Option<&str> {
    let (label, number) = section.name.strip_prefix(PREFIX)?.rsplit_once('_')?;
    (!section.anonymous && number.parse::<u32>().is_ok()).then_some(label)
}

/// An owner's section may have a name that begins like ours.
#[must_use]
pub fn is_ours(section: &Section) -> bool {
    label(section).is_some_and(|label| LABELS.contains(&label))
}

/// Whether it is one of those that an open router must not have: LAN to WAN is refused, or DNS redirected.
#[must_use]
pub fn closes(section: &Section) -> bool {
    label(section).is_some_and(|label| [CLOSED, DNS].contains(&label))
}

/// Whether [`HEAL`] lets pass all that is allowed: an owner may list a public prefix in row 2.8.
#[must_use]
pub fn heals(settings: &Settings) -> bool {
    let ranges = || NEVER_THE_INTERNET.iter().filter_map(|range| range.parse::<IpNet>().ok());
    settings.allow_wan_private.iter().all(|net| ranges().any(|range| range.contains(net)))
}

/// Whether and how fw4 closes: contract, section 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    No,
    /// `healed`: nft takes [`HEAL`].
    Yes {
        healed: bool,
    },
}

/// In the file's order, which is the order of fw4's rules.
#[must_use]
pub fn sections(
    settings: &Settings,
    zones: &[FirewallZone],
    device: &str,
    closed: Closed,
) -> Vec<NewSection> {
    let mut made = Sections::default();
    // An owner's zone of that name keeps it: two would break fw4's file.
    if zones.iter().any(|zone| zone.name == ZONE) {
        return Vec::new();
    }
    made.add(
        ("zone", "zone"),
        &[
            ("name", ZONE),
            ("device", device),
            ("input", "REJECT"),
            ("output", "ACCEPT"),
            ("forward", "REJECT"),
            ("masq", "1"),
            ("masq6", "1"),
            ("mtu_fix", "1"),
        ],
    );
    for lan in on(zones, ZoneSide::Lan) {
        made.add(("forwarding", "forwarding"), &[("src", lan), ("dest", ZONE)]);
    }
    let mark = mark(settings);
    for wan in on(zones, ZoneSide::Wan) {
        // Contract 3.1: no connection to fw4, as they are kept out of conntrack.
        let name = ("tunnel", "vpnd: packets of the tunnel itself");
        made.rule(name, &[("src", wan), ("proto", "all"), ("mark", &mark), ("target", "ACCEPT")]);
    }
    // Contract 3.4. fw4 has no redirect of its own here, and so no accept for it.
    for forward in &settings.allow_tunnel_forward {
        let proto = match forward.proto {
            PortProto::Tcp => "tcp",
            PortProto::Udp => "udp",
        };
        let (address, port) = (forward.to.ip().to_string(), forward.to.port().to_string());
        let rest = [("dest_ip", address.as_str()), ("dest_port", &port), ("target", "ACCEPT")];
        made.rule(
            ("forward", "vpnd: a port forward from the tunnel"),
            &[[("src", ZONE), ("dest", "*"), ("proto", proto)], rest].concat(),
        );
    }
    if let Closed::Yes { healed } = closed {
        made.armed(settings, zones);
        if healed && heals(settings) {
            let file = [("type", "nftables"), ("position", "ruleset-append"), ("path", HEAL)];
            made.add(("include", CLOSED), &file);
        }
    }
    made.0
}

#[derive(Default)]
struct Sections(Vec<NewSection>);

impl Sections {
    /// The section's name has `label` in it, and a number.
    fn add(&mut self, (kind, label): (&'static str, &str), options: &[(&'static str, &str)]) {
        let value = |name: &str, text: &str| match name {
            "device" => NewValue::List(vec![text.to_owned()]),
            _ => NewValue::Text(text.to_owned()),
        };
        let begin = format!("{PREFIX}{label}_");
        let same = |made: &&NewSection| made.name.as_ref().is_some_and(|name| name.starts_with(&begin));
        let name = format!("{begin}{}", 1 + self.0.iter().filter(same).count());
        let options = options.iter().map(|(name, text)| (*name, value(name, text))).collect();
        self.0.push(NewSection { kind, name: Some(name), options });
    }

    fn rule(&mut self, (label, name): (&str, &str), options: &[(&'static str, &str)]) {
        self.add(("rule", label), &[&[("name", name)], options].concat());
    }

    /// LAN to WAN is closed in fw4, too, which holds when vpnd's package and tables are gone; what
    /// row 2.8 allows comes before that.
    fn armed(&mut self, settings: &Settings, zones: &[FirewallZone]) {
        if settings.redirect_dns {
            on(zones, ZoneSide::Lan).for_each(|lan| self.redirect_dns(settings, lan));
        }
        for wan in on(zones, ZoneSide::Wan) {
            for lan in on(zones, ZoneSide::Lan) {
                for net in settings.allow_wan_private.iter().chain(&settings.allow_wan_multicast) {
                    let net = net.to_string();
                    let to = [("dest", wan), ("dest_ip", net.as_str())];
                    let what = [("proto", "all"), ("target", "ACCEPT")];
                    let name = ("allowed", "vpnd: allowed past the VPN (2.8)");
                    self.rule(name, &[&[("src", lan)], &to[..], &what[..]].concat());
                }
                for net in &settings.allow_wan_multicast {
                    let net = net.to_string();
                    let to = [("src", wan), ("dest", lan), ("dest_ip", net.as_str())];
                    let what = [("proto", "udp"), ("target", "ACCEPT")];
                    let name = ("multicast", "vpnd: multicast from the WAN (2.8)");
                    self.rule(name, &[&to[..], &what[..]].concat());
                }
            }
            if !settings.allow_wan_multicast.is_empty() {
                let what = [("src", wan), ("proto", "igmp"), ("target", "ACCEPT")];
                self.rule(("igmp", "vpnd: who wants multicast (2.8)"), &what);
            }
            for zone in zones.iter().filter(|zone| zone.side != ZoneSide::Wan) {
                let what =
                    [("src", zone.name.as_str()), ("dest", wan), ("proto", "all"), ("target", "REJECT")];
                self.rule((CLOSED, "vpnd: nothing past the VPN"), &what);
            }
        }
    }

    /// Contract 3.5. A redirect without `dest_ip` is one to the router itself, and one without `family` is for
    /// IPv4 alone (fw4.uc, `parse_redirect`). What a resolver in the LAN asks itself must not come back to it.
    fn redirect_dns(&mut self, settings: &Settings, lan: &str) {
        let spared = |v4| settings.lan_resolvers().find(|addr| addr.is_ipv4() == v4).map(|a| format!("!{a}"));
        let families = match (spared(true), spared(false)) {
            (None, None) => vec![("any", None)],
            (v4, v6) => vec![("ipv4", v4), ("ipv6", v6)],
        };
        for (family, spared) in families {
            let mut options =
                vec![("name", "vpnd: the router answers DNS (3.5)"), ("src", lan), ("family", family)];
            options.extend(spared.as_ref().map(|spared| ("src_ip", spared.as_str())));
            let to = [("proto", "tcp udp"), ("src_dport", "53"), ("dest_port", "53"), ("target", "DNAT")];
            options.extend(to);
            self.add(("redirect", DNS), &options);
        }
    }
}

fn on(zones: &[FirewallZone], side: ZoneSide) -> impl Iterator<Item = &str> {
    zones.iter().filter(move |zone| zone.side == side).map(|zone| zone.name.as_str())
}

fn mark(settings: &Settings) -> String {
    format!("{:#x}/{:#x}", settings.mark.value(), settings.mark.mask())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Lan;
    use crate::config::uci::{own, parse};

    const STOCK: &str = "config defaults\n\toption input 'REJECT'\n\nconfig zone\n\toption name 'lan'\n\tlist network 'lan'\n\nconfig zone\n\toption name wan\n\tlist network wan\n\toption masq 1\n\n# the way out\nconfig forwarding\n\toption src lan\n\toption dest wan\n";

    fn zones() -> Vec<FirewallZone> {
        [("lan", ZoneSide::Lan), ("wan", ZoneSide::Wan), ("guest", ZoneSide::Neither)]
            .map(|(name, side)| FirewallZone { name: name.to_owned(), side })
            .into()
    }

    fn settings() -> Settings {
        Settings {
            allow_wan_private: vec!["192.168.100.0/24".parse().unwrap()],
            allow_wan_multicast: vec!["239.0.0.0/8".parse().unwrap()],
            allow_tunnel_forward: vec![crate::config::TunnelForward {
                proto: PortProto::Tcp,
                port: 8080,
                to: "192.168.1.20:80".parse().unwrap(),
            }],
            redirect_dns: true,
            ..Settings::fallback(Lan::default())
        }
    }

    const ARMED: Closed = Closed::Yes { healed: true };

    fn written(text: &str, armed: bool) -> Option<String> {
        let new = sections(&settings(), &zones(), "vpnd0", if armed { ARMED } else { Closed::No });
        own(text.as_bytes(), &new, is_ours).unwrap().map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn as_written() {
        let found =
            format!("{}=== armed ===\n{}", written(STOCK, false).unwrap(), written(STOCK, true).unwrap());
        crate::golden("fw4.uci", &found);
    }

    #[test]
    fn taken_away_it_is_what_it_was_whatever_came_between() {
        let set_up = written(STOCK, false).unwrap();
        assert!(written(&set_up, false).is_none(), "written twice");
        let armed = written(&set_up, true).unwrap();
        assert!(written(&armed, true).is_none(), "written twice");
        assert!(parse(armed.as_bytes()).unwrap().sections.iter().any(is_ours));
        for text in [&set_up, &armed, &written(&armed, false).unwrap()] {
            assert!(text.starts_with(STOCK), "{text}");
            let bare = own(text.as_bytes(), &[], is_ours).unwrap().unwrap();
            assert_eq!(String::from_utf8(bare).unwrap(), STOCK);
        }
        assert!(own(STOCK.as_bytes(), &[], is_ours).unwrap().is_none());
        // The owner added something behind ours, with a name like ours.
        let more = format!("{armed}\nconfig rule 'vpnd_my_ssh'\n\toption name mine\n");
        let bare = own(more.as_bytes(), &[], is_ours).unwrap().unwrap();
        assert_eq!(
            String::from_utf8(bare).unwrap(),
            format!("{STOCK}\nconfig rule 'vpnd_my_ssh'\n\toption name mine\n")
        );
    }

    #[test]
    fn what_row_2_8_allows_comes_before_what_closes() {
        let new = sections(&settings(), &zones(), "vpnd0", ARMED);
        let target = |word: &str| {
            let is = |made: &NewSection| made.options.contains(&("target", NewValue::Text(word.to_owned())));
            new.iter().enumerate().filter(|(_, made)| is(made)).map(|(at, _)| at).collect::<Vec<_>>()
        };
        assert!(target("ACCEPT").last() < target("REJECT").first());
        // From every zone but the WAN's own: a guest network is no way round.
        assert_eq!(target("REJECT").len(), 2);
    }

    /// A resolver in the LAN that asks its own upstream must not be sent to who asks it.
    #[test]
    fn dns_is_redirected_but_for_a_resolver_in_the_lan() {
        let device = crate::config::LanDevice {
            name: "br-lan".parse().unwrap(),
            prefixes: vec!["192.168.1.0/24".parse().unwrap()],
            forward: true,
        };
        let redirects = |resolvers: &[&str], armed| {
            let settings = Settings {
                lan: Lan { devices: vec![device.clone()], routes: Vec::new() },
                resolvers: resolvers.iter().map(|text| text.parse().unwrap()).collect(),
                ..settings()
            };
            let all = sections(&settings, &zones(), "vpnd0", armed);
            let words = |made: NewSection| {
                let word = |wanted| {
                    made.options.iter().find(|(name, _)| *name == wanted).and_then(|(_, value)| match value {
                        NewValue::Text(text) => Some(text.clone()),
                        NewValue::List(_) => None,
                    })
                };
                ["family", "src_ip"].map(word).into_iter().flatten().collect::<Vec<_>>().join(" ")
            };
            all.into_iter().filter(|made| made.kind == "redirect").map(words).collect::<Vec<_>>()
        };
        let armed = Closed::Yes { healed: true };
        assert_eq!(redirects(&["10.64.0.1", "127.0.0.1"], armed), ["any"]);
        assert_eq!(redirects(&["10.64.0.1", "192.168.1.5"], armed), ["ipv4 !192.168.1.5", "ipv6"]);
        assert!(redirects(&[], Closed::No).is_empty(), "an open router is as if vpnd were not there");
    }

    #[test]
    fn a_zone_of_the_owners_with_our_name_is_left_alone() {
        let mut zones = zones();
        zones.push(FirewallZone { name: ZONE.to_owned(), side: ZoneSide::Neither });
        assert!(sections(&settings(), &zones, "vpnd0", ARMED).is_empty());
    }

    /// The file and this room say the same of addresses, and what would be refused wrongly is not included.
    #[test]
    fn what_fw4_brings_back_is_included_only_where_it_is_right() {
        let file = include_str!("../../files/usr/share/vpnd/heal.nft");
        let listed = |family: &str, multicast: &str| {
            let mut all: Vec<_> = NEVER_THE_INTERNET
                .iter()
                .filter(|net| net.contains(':') == (family == "ip6"))
                .copied()
                .collect();
            all.push(multicast);
            format!("\t\t{family} daddr {{ {} }} accept", all.join(", "))
        };
        for line in [listed("ip", "224.0.0.0/4"), listed("ip6", "ff00::/8")] {
            assert!(file.contains(&line), "{line}");
        }
        let included = |settings: &Settings, closed| {
            let new = sections(settings, &zones(), "vpnd0", closed);
            let count = new.iter().filter(|made| made.kind == "include").count();
            assert!(new.last().is_some_and(|last| count == 0 || last.kind == "include"));
            count
        };
        assert_eq!(included(&settings(), ARMED), 1);
        assert_eq!(included(&settings(), Closed::No), 0);
        assert_eq!(included(&settings(), Closed::Yes { healed: false }), 0, "nft refuses it");
        for (net, count) in [("10.0.0.0/7", 0), ("198.51.100.0/24", 0), ("64:ff9b::/96", 0), ("fd00::/8", 1)]
        {
            let mut settings = settings();
            settings.allow_wan_private.push(net.parse().unwrap());
            assert_eq!(included(&settings, ARMED), count, "{net}");
        }
    }
}
