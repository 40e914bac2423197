//! What a rule says once it is known by which devices a packet travels: only to tell whether a lane
//! of one home is a lane of another.

use nftables::expr::{Expression, MetaKey, NamedExpression, SetItem};
use nftables::schema::Rule;
use nftables::stmt::{Match, Operator, Statement};

use crate::lane::Lane;

type Expr = Expression<'static>;

/// The rule without what its devices decide; None: they decide nothing.
pub fn decided(rule: &Rule<'static>, lane: &Lane) -> Option<String> {
    let mut text = String::new();
    let mut any = false;
    for statement in rule.expr.iter() {
        match decision(statement, lane) {
            Some(Decision::Holds) => any = true,
            Some(Decision::Fails) => return Some("no".to_owned()),
            Some(Decision::Goes(verdict)) => {
                any = true;
                text.push_str(&verdict);
            }
            None => text.push_str(&serde_json::to_string(statement).unwrap_or_default()),
        }
    }
    any.then(|| text + rule.comment.as_deref().unwrap_or_default())
}

enum Decision {
    Holds,
    Fails,
    Goes(String),
}

fn decision(statement: &Statement<'static>, lane: &Lane) -> Option<Decision> {
    match statement {
        Statement::Match(Match { left, right, op }) => {
            let device = device(left, lane)?;
            let named = match right {
                Expression::String(name) => *name == device,
                Expression::Named(NamedExpression::Set(items)) => items.iter().any(
                    |item| matches!(item, SetItem::Element(Expression::String(name)) if *name == device),
                ),
                _ => return None,
            };
            let holds = match op {
                Operator::EQ => named,
                Operator::NEQ => !named,
                _ => return None,
            };
            Some(if holds { Decision::Holds } else { Decision::Fails })
        }
        Statement::VerdictMap(map) => {
            let Expression::Named(NamedExpression::Set(items)) = &map.data else { return None };
            let wanted: Vec<String> =
                parts(&map.key).iter().map(|key| device(key, lane)).collect::<Option<_>>()?;
            let found = items.iter().find_map(|item| match item {
                SetItem::MappingStatement(key, verdict) => {
                    let names = parts(key).iter().map(|name| match name {
                        Expression::String(name) => Some(name.to_string()),
                        _ => None,
                    });
                    let names: Option<Vec<String>> = names.collect();
                    (names? == wanted).then_some(verdict)
                }
                _ => None,
            });
            Some(match found {
                Some(verdict) => Decision::Goes(serde_json::to_string(verdict).unwrap_or_default()),
                None => Decision::Fails,
            })
        }
        _ => None,
    }
}

fn parts(expr: &Expr) -> &[Expr] {
    match expr {
        Expression::Named(NamedExpression::Concat(parts)) => parts,
        one => std::slice::from_ref(one),
    }
}

fn device(key: &Expr, lane: &Lane) -> Option<String> {
    let Expression::Named(NamedExpression::Meta(meta)) = key else { return None };
    let device = match meta.key {
        MetaKey::Iifname => &lane.iif,
        MetaKey::Oifname => &lane.oif,
        _ => return None,
    };
    device.as_ref().map(ToString::to_string)
}
