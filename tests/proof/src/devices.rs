//! What a rule says once it is known by which devices a packet travels: only to tell whether a lane
//! of one home is a lane of another.

use std::hash::{DefaultHasher, Hash, Hasher};

use nftables::expr::{Expression, MetaKey, NamedExpression, SetItem};
use nftables::schema::Rule;
use nftables::stmt::{Match, Operator, Statement};

use crate::lane::Lane;

type Expr = Expression<'static>;

/// A rule's statements, each as a number.
pub struct Said {
    statements: Vec<u64>,
    by_devices: bool,
}

fn number(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Said {
    pub fn new(rule: &Rule<'static>) -> Self {
        let json = |statement| serde_json::to_string(statement).unwrap_or_default();
        let mut statements: Vec<u64> = rule.expr.iter().map(|statement| number(&json(statement))).collect();
        statements.push(number(rule.comment.as_deref().unwrap_or_default()));
        let of_devices = |statement: &Statement<'static>| match statement {
            Statement::Match(Match { left, .. }) => is_device(left),
            Statement::VerdictMap(map) => parts(&map.key).iter().all(is_device),
            _ => false,
        };
        Self { statements, by_devices: rule.expr.iter().any(of_devices) }
    }

    /// What is left of the rule for packets of these devices.
    pub fn hash(&self, rule: &Rule<'static>, lane: &Lane, hasher: &mut impl Hasher) {
        if !self.by_devices {
            self.statements.hash(hasher);
            return;
        }
        for (statement, number) in rule.expr.iter().zip(&self.statements) {
            match decision(statement, lane) {
                Some(Decision::Holds) => {}
                Some(Decision::Fails) => return,
                Some(Decision::Goes(verdict)) => verdict.hash(hasher),
                None => number.hash(hasher),
            }
        }
        self.statements.last().hash(hasher);
    }
}

fn is_device(key: &Expr) -> bool {
    matches!(key, Expression::Named(NamedExpression::Meta(meta))
        if matches!(meta.key, MetaKey::Iifname | MetaKey::Oifname))
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
