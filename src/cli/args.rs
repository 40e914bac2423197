//! The command line: one table of verbs, from which parsing and every `--help` come.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::state::{RunDir, StateDir};

/// An option of one verb: its long name, what its value is called (None: a flag), what it does.
type Opt = (&'static str, Option<&'static str>, &'static str);

struct Spec {
    verb: &'static str,
    /// As in the usage line.
    values: &'static str,
    /// At least, at most.
    count: (usize, usize),
    does: &'static str,
    options: &'static [Opt],
}

const YES: Opt = ("yes", None, "do not ask for confirmation");

const VERBS: &[Spec] = &[
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
        verb: "disarm",
        values: "",
        count: (0, 0),
        does: "end all blocking, lockdown included; works with a dead daemon too",
        options: &[YES],
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

/// A verb's arguments, checked against the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Input {
    pub config_dir: PathBuf,
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    pub values: Vec<String>,
    options: Vec<(&'static str, String)>,
}

impl Input {
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.options.iter().any(|(n, _)| *n == name)
    }
    /// The last value given.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.options.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value.as_str())
    }
    #[must_use]
    pub fn state(&self) -> StateDir {
        StateDir::new(&self.state_dir)
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Help or version.
    Say(String),
    Run(&'static str, Input),
}

/// # Errors
/// A sentence for the user.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Parsed, String> {
    let mut parser = Parser::from_iter(args);
    let mut spec: Option<&'static Spec> = None;
    let mut help = false;
    let mut input = Input {
        config_dir: "/etc/config".into(),
        run_dir: RunDir::DEFAULT.into(),
        state_dir: StateDir::DEFAULT.into(),
        values: Vec::new(),
        options: Vec::new(),
    };
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => help = true,
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Parsed::Say(format!("vpnd {}", env!("CARGO_PKG_VERSION"))));
            }
            Arg::Long("config-dir") => input.config_dir = directory(&mut parser)?,
            Arg::Long("run-dir") => input.run_dir = directory(&mut parser)?,
            Arg::Long("state-dir") => input.state_dir = directory(&mut parser)?,
            Arg::Value(word) => {
                let word = word.into_string().map_err(|w| format!("{w:?} is no UTF-8"))?;
                match spec {
                    None => spec = Some(verb(&word)?),
                    Some(_) => input.values.push(word),
                }
            }
            Arg::Long(name) => {
                let found = option(spec, name)?;
                let value = match found.1 {
                    Some(_) => parser.value().and_then(|v| v.string()).map_err(|e| e.to_string())?,
                    None => String::new(),
                };
                input.options.push((found.0, value));
            }
            Arg::Short(letter) => return Err(format!("unknown option -{letter}; see 'vpnd --help'")),
        }
    }
    finish(spec, help, input)
}

fn finish(spec: Option<&'static Spec>, help: bool, input: Input) -> Result<Parsed, String> {
    let Some(spec) = spec else {
        return if help {
            Ok(Parsed::Say(overview()))
        } else {
            Err(format!("which verb?\n\n{}", overview()))
        };
    };
    if help {
        return Ok(Parsed::Say(details(spec)));
    }
    let (least, most) = spec.count;
    if input.values.len() < least {
        return Err(format!("{} needs {}; see 'vpnd {} --help'", spec.verb, spec.values, spec.verb));
    }
    if let Some(extra) = input.values.get(most) {
        return Err(format!(
            "{}: '{extra}' is one argument too many; see 'vpnd {} --help'",
            spec.verb, spec.verb
        ));
    }
    Ok(Parsed::Run(spec.verb, input))
}

fn directory(parser: &mut Parser) -> Result<PathBuf, String> {
    parser.value().map(PathBuf::from).map_err(|e| e.to_string())
}

fn verb(word: &str) -> Result<&'static Spec, String> {
    VERBS.iter().find(|s| s.verb == word).ok_or_else(|| {
        let known: Vec<_> = VERBS.iter().map(|s| s.verb).collect();
        format!("there is no verb '{word}'; the verbs are {}", known.join(", "))
    })
}

fn option(spec: Option<&'static Spec>, name: &str) -> Result<&'static Opt, String> {
    let Some(spec) = spec else {
        return Err(format!("unknown option --{name} before a verb; see 'vpnd --help'"));
    };
    spec.options
        .iter()
        .find(|o| o.0 == name)
        .ok_or_else(|| format!("{} knows no option --{name}; see 'vpnd {} --help'", spec.verb, spec.verb))
}

fn usage(spec: &Spec) -> String {
    if spec.values.is_empty() { spec.verb.to_owned() } else { format!("{} {}", spec.verb, spec.values) }
}

fn overview() -> String {
    let mut out = "usage: vpnd VERB [OPTIONS]\n\n".to_owned();
    for spec in VERBS {
        let _ = writeln!(out, "  {:22} {}", usage(spec), spec.does);
    }
    out.push('\n');
    list(&mut out, GLOBALS);
    out.push_str("\nExit: status 0 connected, 3 blocked, 4 open, 1 error; other verbs 0 done, 1 failed.");
    out
}

fn details(spec: &Spec) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, String> {
        parse(std::iter::once("vpnd").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [
            "--run-dir /r connect se --wait 5 --config-dir=/c",
            "connect --config-dir /c se --run-dir=/r --wait=5",
            "connect se --wait 5 --run-dir /r --config-dir /c",
        ] {
            let Ok(Parsed::Run("connect", input)) = parsed(line) else { panic!("{line}") };
            assert_eq!((input.config_dir.to_str(), input.run_dir.to_str()), (Some("/c"), Some("/r")));
            assert_eq!(input.state_dir.to_str(), Some("/etc/vpnd"));
            assert_eq!(input.values, ["se"]);
            assert_eq!(input.option("wait"), Some("5"));
            assert!(!input.flag("no-wait"));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, words) in [
            ("", "which verb?"),
            ("conect", "there is no verb 'conect'; the verbs are status, connect"),
            ("--json status", "unknown option --json before a verb"),
            ("status --jsn", "status knows no option --jsn"),
            ("status -j", "unknown option -j"),
            ("status x", "'x' is one argument too many"),
            ("lockdown", "lockdown needs on|off"),
            ("connect --wait", "missing argument for option '--wait'"),
            ("status --json=1", "unexpected argument for option '--json'"),
            ("status --run-dir", "missing argument for option '--run-dir'"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn every_verb_has_help() {
        for spec in VERBS {
            let Ok(Parsed::Say(help)) = parsed(&format!("{} --help", spec.verb)) else { panic!() };
            assert!(help.contains(&usage(spec)) && help.contains("--state-dir DIR"), "{help}");
        }
        let Ok(Parsed::Say(all)) = parsed("--help") else { panic!() };
        assert!(VERBS.iter().all(|s| all.contains(s.does)));
        assert_eq!(parsed("--version"), Ok(Parsed::Say("vpnd 0.1.0".to_owned())));
    }
}
