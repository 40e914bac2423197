//! `vpnd why`: the last blocked packets, or what would become of one.

mod asked;
mod explain;
mod leases;
mod listed;
mod question;

use super::Outcome;
use super::args::Input;
use crate::policy::reason::protocol_name;

pub fn run(input: &Input) -> Outcome {
    match (input.option("from"), input.option("to")) {
        (Some(from), Some(to)) => asked::run(input, from, to),
        (None, None) if input.option("state").is_none() => listed::run(input),
        _ => Err("--from WHO and --to WHAT go together; see 'vpnd why --help'".to_owned()),
    }
}

/// A destination port, or the type of ICMP(v6).
fn protocol_and_port(protocol: u8, port: Option<u16>) -> String {
    let name = protocol_name(protocol).map_or(format!("protocol {protocol}"), str::to_owned);
    match (protocol, port) {
        (_, None) => name,
        (1 | 58, Some(kind)) => format!("{name} type {kind}"),
        (_, Some(port)) => format!("{name} {port}"),
    }
}
