//! Every kind of expression and statement that the compiler can emit, and what is none of them.

mod compiled;
mod effects;
mod matches;

use nftables::expr::{Expression, MetaKey, NamedExpression, RT, RTKey, SetItem};
use nftables::schema::{Chain, Rule};
use nftables::stmt::{JumpTarget, Mangle, NAT, NATFamily, Set, SetOp, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfHook};

use crate::config::{Mark, Settings};
use crate::firewall::base::{self, base_chain, regular_chain, rule};
use crate::firewall::expr::{self, Expr, Stmt, has, is, is_not, word};
use crate::firewall::{compile, statement};
use crate::policy::{Family, Policy, Row, compose, samples};

use super::*;

fn accept() -> Stmt {
    Statement::Accept(None)
}

fn filter(hook: NfHook, priority: i32) -> Chain<'static> {
    base_chain("base", NfChainType::Filter, hook, priority, NfChainPolicy::Drop)
}

fn evaluator(chains: Vec<Chain<'static>>, rules: Vec<Rule<'static>>) -> Evaluator {
    let sets = Family::BOTH.map(|family| base::spoke_set(family).declaration());
    Evaluator::of_objects(&sets, &chains, &rules).unwrap()
}

/// One rule in a forward chain that accepts what matches.
fn matcher(statements: Vec<Stmt>) -> Evaluator {
    let mut statements = statements;
    statements.push(accept());
    evaluator(vec![filter(NfHook::Forward, -10)], vec![rule("base", statements, String::new())])
}

fn packet(source: &str, destination: &str, protocol: u8, transport: &[u8]) -> Packet {
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
        transport: transport.to_vec(),
        hop_limit: 64,
        mark: 0,
    }
}

/// UDP, 4660 -> 53.
fn udp() -> Packet {
    packet("192.168.1.20", "1.1.1.1", 17, &[0x12, 0x34, 0, 53, 0, 8, 0, 0])
}

fn udp6() -> Packet {
    packet("fe80::1", "ff02::2", 17, &[0x12, 0x34, 0, 53, 0, 8, 0, 0])
}

fn tcp(flags: u8) -> Packet {
    let mut header = vec![0x12, 0x34, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0];
    header[13] = flags;
    packet("192.168.1.20", "1.1.1.1", 6, &header)
}

fn devices() -> Devices {
    Devices { iif: Some("br-lan".parse().unwrap()), oif: Some("eth1".parse().unwrap()) }
}

fn verdict(evaluator: &Evaluator, packet: &Packet, flow: &Flow, world: &World) -> Verdict {
    let (mut packet, mut flow) = (packet.clone(), *flow);
    evaluator.hook(Hook::Forward, &mut packet, &devices(), &mut flow, world).unwrap().verdict
}

fn passes(statements: Vec<Stmt>, packet: &Packet) -> bool {
    let evaluator = matcher(statements);
    verdict(&evaluator, packet, &Flow::new(), &World::default()) == Verdict::Accept
}

fn number(number: u32) -> Expr {
    Expr::Number(number)
}

fn meta(key: MetaKey, value: Expr) -> Vec<Stmt> {
    vec![is(expr::meta(key), value)]
}

fn goto(target: &'static str) -> Stmt {
    Statement::Goto(JumpTarget { target: target.into() })
}

fn jump(target: &'static str) -> Stmt {
    Statement::Jump(JumpTarget { target: target.into() })
}

fn set_to(key: Expr, value: Expr) -> Stmt {
    Statement::Mangle(Mangle { key, value })
}
