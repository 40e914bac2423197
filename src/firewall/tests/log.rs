//! The rules that tell the daemon of what is blocked decide nothing, and name the right row.

use nftables::stmt::Statement;

use crate::firewall::base::{self, LOG_PREFIX};
use crate::firewall::compile;
use crate::policy::{Action, PolicyState, compose, samples};

fn is_verdict(stmt: &Statement<'_>) -> bool {
    matches!(
        stmt,
        Statement::Accept(_)
            | Statement::Drop(_)
            | Statement::Reject(_)
            | Statement::Goto(_)
            | Statement::Jump(_)
            | Statement::VerdictMap(_)
    )
}

#[test]
fn no_verdict_depends_on_a_rate() {
    let mut told = 0;
    for case in samples::cases() {
        let ruleset = compile(&compose(&case.stance, &case.settings, &case.facts).unwrap());
        for rule in ruleset.rules() {
            let rated = rule.expr.iter().any(|stmt| matches!(stmt, Statement::Limit(_) | Statement::Log(_)));
            if rated {
                told += 1;
                // Nothing else is in such a rule: it neither decides nor changes anything.
                assert!(
                    matches!(rule.expr.as_ref(), [Statement::Limit(_), Statement::Log(Some(_))]),
                    "{}: {rule:?}",
                    case.name
                );
            }
        }
        let quiet = ruleset.without_log();
        let counted = ruleset.rules().len() - quiet.iter().count();
        assert_eq!(counted == 0, ruleset.state() == PolicyState::Boot, "{}", case.name);
        assert!(!quiet.iter().any(|rule| rule.expr.iter().any(|stmt| matches!(stmt, Statement::Log(_)))));
        let json = quiet.to_json().unwrap();
        assert!(!json.contains("\"log\"") && json.contains("\"chain\""), "{}", case.name);
        assert_eq!(quiet.hash() == ruleset.hash(), counted == 0, "{}", case.name);
    }
    assert!(told > 30, "only {told} rules that tell");
}

/// Whatever is blocked goes through a chain that tells of it and ends it, by the row that says so.
#[test]
fn every_refusal_is_told_of_by_its_row() {
    let mut refusals = 0;
    for case in samples::cases() {
        let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
        let ruleset = compile(&policy);
        for clause in policy.clauses() {
            let chain = match clause.action {
                Action::Refuse => base::refusal(clause.way, clause.row),
                Action::Drop => base::BLOCKED_SOURCE,
                _ => continue,
            };
            let blocked = base::BLOCKED.iter().find(|blocked| blocked.chain == chain).unwrap();
            assert_eq!(blocked.row, clause.row, "{}: {}", case.name, clause.what);
            refusals += 1;
        }
        for blocked in base::BLOCKED {
            let rules: Vec<_> = ruleset.rules().iter().filter(|rule| rule.chain == blocked.chain).collect();
            let Some(last) = rules.last() else { continue };
            assert!(last.expr.last().is_some_and(is_verdict), "{}: {}", case.name, blocked.chain);
            let prefix = format!("{LOG_PREFIX}{}", blocked.row.number());
            let told = rules.iter().flat_map(|rule| rule.expr.iter()).find_map(|stmt| match stmt {
                Statement::Log(Some(log)) => log.prefix.as_deref(),
                _ => None,
            });
            let wanted = (ruleset.state() != PolicyState::Boot).then_some(prefix.as_str());
            assert_eq!(told, wanted, "{}: {}", case.name, blocked.chain);
        }
        // Nobody goes to an end but through such a chain.
        for rule in ruleset.rules() {
            let through = base::BLOCKED.iter().any(|blocked| rule.chain == blocked.chain);
            let ends = rule.expr.iter().any(|stmt| {
                matches!(stmt, Statement::Goto(to) if to.target.starts_with("refuse_"))
                    || matches!(stmt, Statement::Drop(_)) && !rule.chain.starts_with("refuse_")
            });
            assert!(through || !ends, "{}: {rule:?}", case.name);
        }
    }
    assert!(refusals > 50, "only {refusals} refusals");
}
