//! Expressions as nft's JSON.

use nftables::expr::{
    BinaryOperation, CT, Expression, Fib, Meta, NamedExpression, Payload, PayloadBase, PayloadField,
    PayloadRaw, Prefix, RT, SetItem, TcpOption,
};
use serde_json::Value;

use super::{Fields, Unwritten, Written, list, named, statement, words};

pub(super) fn written(expression: &Expression<'_>) -> Written {
    match expression {
        Expression::String(text) => Ok(Value::from(text.as_ref())),
        Expression::Number(number) => Ok(Value::from(*number)),
        Expression::Boolean(value) => Ok(Value::Bool(*value)),
        Expression::List(items) => list(&mut items.iter().map(written)),
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::AND(value, mask) => {
                Ok(named("&", Value::Array(vec![written(value)?, written(mask)?])))
            }
            BinaryOperation::OR(parts) => Ok(named("|", list(&mut parts.iter().map(written))?)),
            _ => Err(Unwritten("an operation like this")),
        },
        Expression::Named(expression) => of_kind(expression),
        _ => Err(Unwritten("an expression like this")),
    }
}

/// `{"KIND": …}`.
fn of_kind(expression: &NamedExpression<'_>) -> Written {
    let value = match expression {
        NamedExpression::Concat(parts) => named("concat", list(&mut parts.iter().map(written))?),
        NamedExpression::Set(items) => named("set", list(&mut items.iter().map(item))?),
        NamedExpression::Prefix(Prefix { addr, len }) => {
            Fields::default().with("addr", written(addr)?).number("len", *len).of("prefix")
        }
        NamedExpression::Payload(Payload::PayloadField(PayloadField { protocol, field })) => {
            Fields::default().text("protocol", protocol).text("field", field).of("payload")
        }
        NamedExpression::Payload(Payload::PayloadRaw(PayloadRaw { base: PayloadBase::TH, offset, len })) => {
            Fields::default().text("base", "th").number("offset", *offset).number("len", *len).of("payload")
        }
        NamedExpression::TcpOption(TcpOption { name, field: Some(field) }) => {
            Fields::default().text("name", name).text("field", field).of("tcp option")
        }
        NamedExpression::Meta(Meta { key }) => {
            Fields::default().text("key", words::meta_key(*key)?).of("meta")
        }
        NamedExpression::RT(RT { key, family: None }) => {
            Fields::default().text("key", words::route_key(*key)).of("rt")
        }
        NamedExpression::CT(CT { key, family: None, dir: None }) => {
            Fields::default().text("key", key).of("ct")
        }
        NamedExpression::Fib(Fib { result, flags }) => {
            let flags = Value::from(words::fib_flags(flags));
            Fields::default().text("result", words::fib_result(*result)).with("flags", flags).of("fib")
        }
        _ => return Err(Unwritten("an expression like this")),
    };
    Ok(value)
}

fn item(item: &SetItem<'_>) -> Written {
    match item {
        SetItem::Element(value) => written(value),
        SetItem::MappingStatement(key, verdict) => {
            Ok(Value::Array(vec![written(key)?, statement::written(verdict)?]))
        }
        SetItem::Mapping(..) => Err(Unwritten("a map like this")),
    }
}
