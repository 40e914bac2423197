//! The command line, parsed by the table of verbs.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use super::verbs::{Opt, Spec, VERBS, details, overview};
use crate::state::{RunDir, StateDir};

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
    while let Some(arg) = parser.next().map_err(told)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => help = true,
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Parsed::Say(format!("vpnd {}", env!("CARGO_PKG_VERSION"))));
            }
            Arg::Long("config-dir") => input.config_dir = directory(&mut parser)?,
            Arg::Long("run-dir") => input.run_dir = directory(&mut parser)?,
            Arg::Long("state-dir") => input.state_dir = directory(&mut parser)?,
            Arg::Value(word) => {
                let word =
                    word.into_string().map_err(|w| format!("'{}' is no UTF-8", w.to_string_lossy()))?;
                match spec {
                    None => spec = Some(verb(&word)?),
                    Some(_) => input.values.push(word),
                }
            }
            Arg::Long(name) => {
                let found = option(spec, name)?;
                let value = match found.1 {
                    Some(_) => parser.value().and_then(|v| v.string()).map_err(told)?,
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
    parser.value().map(PathBuf::from).map_err(told)
}

/// lexopt's own words quote values as Rust's debugging does, which the release build leaves out
/// (cross/build).
fn told(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => {
            format!("unexpected argument for option '{option}': '{}'", value.to_string_lossy())
        }
        lexopt::Error::NonUnicodeValue(value) => format!("'{}' is no UTF-8", value.to_string_lossy()),
        other => other.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use super::super::verbs::usage;
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
            ("status --json=1", "unexpected argument for option '--json': '1'"),
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
