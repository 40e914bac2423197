//! The table of verbs, from which parsing and every `--help` come.

use std::fmt::Write;

/// An option of one verb: its long name, what its value is called (None: a flag), what it does.
pub type Opt = (&'static str, Option<&'static str>, &'static str);

pub struct Spec {
    pub verb: &'static str,
    /// As in the usage line.
    pub values: &'static str,
    /// At least, at most.
    pub count: (usize, usize),
    pub does: &'static str,
    pub options: &'static [Opt],
}

const YES: Opt = ("yes", None, "do not ask for confirmation");

pub const VERBS: &[Spec] = &[
    Spec {
        verb: "status",
        values: "",
        count: (0, 0),
        does: "say whether the router is connected, blocked or open: from the daemon and from the kernel itself",
        options: &[("json", None, "as JSON"), ("watch", None, "again every second, until Ctrl-C")],
    },
    Spec {
        verb: "connect",
        values: "[RELAY]",
        count: (0, 1),
        does: "build a tunnel to a relay (a name, city or country; none: any) and wait until it is verified",
        options: &[
            ("no-wait", None, "return as soon as the daemon has taken the word"),
            ("wait", Some("SECONDS"), "wait at most this long (default 30)"),
        ],
    },
    Spec {
        verb: "disconnect",
        values: "",
        count: (0, 0),
        does: "take the tunnel down; opens the router unless lockdown is on",
        options: &[],
    },
    Spec { verb: "reconnect", values: "", count: (0, 0), does: "build the tunnel anew", options: &[] },
    Spec {
        verb: "lockdown",
        values: "on|off",
        count: (1, 1),
        does: "\"always require VPN\": on, a disconnected router blocks",
        options: &[],
    },
    Spec {
        verb: "relays",
        values: "[FILTER]",
        count: (0, 1),
        does: "list the relays whose name, country or city contains FILTER",
        options: &[("json", None, "as JSON")],
    },
    Spec {
        verb: "why",
        values: "",
        count: (0, 0),
        does: "say what was blocked lately, or what would become of a packet (--from, --to), and what would allow it",
        options: &[
            (
                "from",
                Some("WHO"),
                "router, lan:ADDRESS, lan:DEVICE, lan:NAME (of a lease), wan:ADDRESS or tunnel:ADDRESS",
            ),
            (
                "to",
                Some("WHAT"),
                "router or ADDRESS, with :PORT and /PROTOCOL: 1.1.1.1:53/udp, [2001:db8::1]:443, 10.0.0.1/icmp",
            ),
            (
                "state",
                Some("STATE"),
                "as in 'ruleset', needs neither root nor daemon; default: what is in force",
            ),
            ("relay", Some("NAME"), "with --state; default: the first one configured"),
            ("wan", Some("DEV=PREFIX,…"), "with --state: a WAN device and its prefixes"),
            ("leases", Some("FILE"), "dnsmasq's leases, for names; default /tmp/dhcp.leases"),
            ("json", None, "as JSON"),
        ],
    },
    Spec {
        verb: "disarm",
        values: "",
        count: (0, 0),
        does: "end all blocking, lockdown included; works with a dead or hung daemon too",
        options: &[
            YES,
            (
                "for",
                Some("TIME"),
                "only for so long (90s, 10m, 2h; a day at most); then it blocks again by itself",
            ),
        ],
    },
    Spec {
        verb: "import",
        values: "FILE.conf",
        count: (1, 1),
        does: "take tunnel and relay from a wg-quick file into the configuration",
        options: &[("name", Some("NAME"), "the relay's name (default: the file's)")],
    },
    Spec {
        verb: "check",
        values: "",
        count: (0, 0),
        does: "read the configuration and say all that is wrong with it",
        options: &[],
    },
    Spec {
        verb: "block",
        values: "",
        count: (0, 0),
        does: "put the boot policy in force at once, without the daemon",
        options: &[("if-armed", None, "only if the router is armed; otherwise do nothing")],
    },
    Spec {
        verb: "ruleset",
        values: "",
        count: (0, 0),
        does: "print the rules of a state; needs neither root nor a kernel",
        options: &[
            ("state", Some("STATE"), "boot, blocked (also: error, lockdown), connecting, connected"),
            ("format", Some("nft|json"), "default nft"),
            ("relay", Some("NAME"), "default: the first one configured"),
            ("listen-port", Some("PORT"), "the tunnel's own port, default 51820"),
            ("wan", Some("DEV=PREFIX,…"), "a WAN device and its prefixes; may be given again"),
            ("lease", Some("DEV=SERVER"), "the DHCP server of a WAN device; may be given again"),
            ("api", Some("ADDRESS:PORT"), "an address of the provider's API; may be given again"),
            ("dns", None, "connecting: as in a switch from connected"),
        ],
    },
    Spec {
        verb: "apply",
        values: "",
        count: (0, 0),
        does: "put changed settings in force and say what they change; on trial where they could cut you off",
        options: &[
            ("dry-run", None, "only say what they would change"),
            (
                "confirm-within",
                Some("SECONDS"),
                "on trial in any case, for so long (default 60, where needed)",
            ),
            ("confirm", None, "keep the settings that are on trial"),
            ("undo", None, "go back at once from those that are on trial"),
        ],
    },
    Spec {
        verb: "generations",
        values: "",
        count: (0, 0),
        does: "list the rulesets since boot, why each was put, and which one the kernel enforces",
        options: &[("json", None, "as JSON")],
    },
    Spec {
        verb: "diff",
        values: "[A [B]]",
        count: (0, 2),
        does: "say what may pass under generation B and not under A, and the other way round (none: the last two)",
        options: &[("json", None, "as JSON")],
    },
    Spec {
        verb: "setup",
        values: "",
        count: (0, 0),
        does: "write what vpnd needs into the firewall's configuration: a zone for the tunnel; while armed, nothing from LAN to WAN",
        options: &[],
    },
    Spec {
        verb: "teardown",
        values: "",
        count: (0, 0),
        does: "take that out of the firewall's configuration again; not while armed",
        options: &[],
    },
    Spec {
        verb: "lease",
        values: "DEVICE [SERVER]",
        count: (1, 2),
        does: "tell the daemon of the DHCP server that DEVICE has its lease from (none: it lost it)",
        options: &[],
    },
    Spec {
        verb: "reload",
        values: "",
        count: (0, 0),
        does: "have the daemon read the configuration again",
        options: &[],
    },
    Spec {
        verb: "daemon",
        values: "",
        count: (0, 0),
        does: "run in the foreground until SIGTERM; the init script does this",
        options: &[],
    },
];

const GLOBALS: &[Opt] = &[
    ("config-dir", Some("DIR"), "UCI files, default /etc/config"),
    ("run-dir", Some("DIR"), "the control socket, default /var/run/vpnd"),
    ("state-dir", Some("DIR"), "wanted state and marker, default /etc/vpnd"),
    ("help", None, "this text; after a verb, that verb's"),
    ("version", None, "the version"),
];

#[must_use]
pub fn usage(spec: &Spec) -> String {
    if spec.values.is_empty() { spec.verb.to_owned() } else { format!("{} {}", spec.verb, spec.values) }
}

#[must_use]
pub fn overview() -> String {
    let mut out = "usage: vpnd VERB [OPTIONS]\n\n".to_owned();
    for spec in VERBS {
        let _ = writeln!(out, "  {:22} {}", usage(spec), spec.does);
    }
    out.push('\n');
    list(&mut out, GLOBALS);
    out.push_str("\nExit: status 0 connected, 3 blocked, 4 open, 1 error; other verbs 0 done, 1 failed.");
    out
}

#[must_use]
pub fn details(spec: &Spec) -> String {
    let mut out = format!("usage: vpnd {} [OPTIONS]\n\n{}.\n\n", usage(spec), sentence(spec.does));
    list(&mut out, spec.options);
    list(&mut out, GLOBALS);
    out.trim_end().to_owned()
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn list(out: &mut String, options: &[Opt]) {
    for (name, value, does) in options {
        let left = match value {
            Some(value) => format!("--{name} {value}"),
            None => format!("--{name}"),
        };
        let _ = writeln!(out, "  {left:22} {does}");
    }
}
