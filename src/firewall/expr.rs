//! Short names for the nftables crate's expressions.

use std::collections::HashSet;

use ipnet::IpNet;
use nftables::expr::{
    BinaryOperation, CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload,
    PayloadBase, PayloadField, PayloadRaw, Prefix, SetItem, TcpOption,
};
use nftables::stmt::{Match, Operator, Statement};

use crate::config::IfName;
use crate::policy::Family;

pub type Expr = Expression<'static>;
pub type Stmt = Statement<'static>;

pub fn word(text: &'static str) -> Expr {
    Expr::String(text.into())
}

pub fn device(name: &IfName) -> Expr {
    Expr::String(name.as_str().to_owned().into())
}

pub fn meta(key: MetaKey) -> Expr {
    Expr::Named(NamedExpression::Meta(Meta { key }))
}

pub fn ct(key: &'static str) -> Expr {
    Expr::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}

pub fn field(protocol: &'static str, field: &'static str) -> Expr {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expr::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

/// Bits from the start of the transport header.
pub fn transport_bits(offset: u32, len: u32) -> Expr {
    let raw = PayloadRaw { base: PayloadBase::TH, offset, len };
    Expr::Named(NamedExpression::Payload(Payload::PayloadRaw(raw)))
}

pub fn tcp_mss() -> Expr {
    let option = TcpOption { name: "maxseg".into(), field: Some("size".into()) };
    Expr::Named(NamedExpression::TcpOption(option))
}

/// The kind of route to the packet's source, looked up on the device it leaves by.
pub fn source_type_on_output_device() -> Expr {
    let flags = HashSet::from([FibFlag::Saddr, FibFlag::Oif]);
    Expr::Named(NamedExpression::Fib(Fib { result: FibResult::Type, flags }))
}

pub fn of_family(family: Family) -> Stmt {
    let name = if family == Family::V4 { "ipv4" } else { "ipv6" };
    is(meta(MetaKey::Nfproto), word(name))
}

/// The kind of route to the packet's destination.
pub fn destination_type() -> Expr {
    Expr::Named(NamedExpression::Fib(Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) }))
}

/// The device by which the router itself would send to the packet's destination; compared with
/// `false`: there is none.
pub fn device_of_route() -> Expr {
    Expr::Named(NamedExpression::Fib(Fib { result: FibResult::Oif, flags: HashSet::from([FibFlag::Daddr]) }))
}

pub fn concat(parts: Vec<Expr>) -> Expr {
    Expr::Named(NamedExpression::Concat(parts))
}

/// One value as itself, several as an anonymous set.
pub fn one_of(mut values: Vec<Expr>) -> Expr {
    if values.len() == 1 {
        return values.remove(0);
    }
    Expr::Named(NamedExpression::Set(values.into_iter().map(SetItem::Element).collect()))
}

pub fn devices(names: &[IfName]) -> Expr {
    one_of(names.iter().map(device).collect())
}

pub fn net(net: &IpNet) -> Expr {
    let addr = Expr::String(net.network().to_string().into());
    if net.prefix_len() == net.max_prefix_len() {
        return addr;
    }
    let prefix = Prefix { addr: Box::new(addr), len: u32::from(net.prefix_len()) };
    Expr::Named(NamedExpression::Prefix(prefix))
}

pub fn nets(list: &[IpNet]) -> Expr {
    one_of(list.iter().map(net).collect())
}

pub fn and(left: Expr, mask: Expr) -> Expr {
    Expr::BinaryOperation(Box::new(BinaryOperation::AND(left, mask)))
}

pub fn or(parts: Vec<Expr>) -> Expr {
    Expr::BinaryOperation(Box::new(BinaryOperation::OR(parts)))
}

pub fn is(left: Expr, right: Expr) -> Stmt {
    Stmt::Match(Match { left, right, op: Operator::EQ })
}

pub fn is_not(left: Expr, right: Expr) -> Stmt {
    Stmt::Match(Match { left, right, op: Operator::NEQ })
}

/// For conntrack's state and status, which are sets of bits.
pub fn has(left: Expr, right: Expr) -> Stmt {
    Stmt::Match(Match { left, right, op: Operator::IN })
}
