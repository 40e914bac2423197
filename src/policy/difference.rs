//! What two policies' sentences differ in, by the contract's rows. Pure.

use ipnet::IpNet;

use super::row::Row;
use super::sentence::{Sentence, over_all_ways};
use crate::sorted;

/// One row's differences; never both empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub row: Row,
    /// In the new one only, with the items that are new.
    pub now: Vec<Sentence>,
    /// In the old one only, with the items that are gone.
    pub gone: Vec<Sentence>,
}

/// In the order of the rows; within a row as the policies have them.
#[must_use]
pub fn difference(old: &[Sentence], new: &[Sentence]) -> Vec<Difference> {
    let of_row =
        |row: &Row| Difference { row: *row, now: only_in(new, old, *row), gone: only_in(old, new, *row) };
    let rows = Row::ALL.iter().map(of_row);
    rows.filter(|found| !found.now.is_empty() || !found.gone.is_empty()).collect()
}

fn only_in(these: &[Sentence], others: &[Sentence], row: Row) -> Vec<Sentence> {
    let mut out = Vec::new();
    for sentence in these.iter().filter(|sentence| sentence.row == row) {
        let Some(twin) = others.iter().find(|other| other.says_the_same(sentence)) else {
            out.push(sentence.clone());
            continue;
        };
        let items = without(&sentence.items, &twin.items);
        if !items.is_empty() {
            out.push(Sentence { items: items.join(" "), ..sentence.clone() });
        }
    }
    over_all_ways(out)
}

/// The items that the others do not cover; of a prefix, the part that they do not.
pub(super) fn without(items: &str, others: &str) -> Vec<String> {
    let known = sorted::each_once(others.split(' '));
    let fresh: Vec<&str> =
        items.split(' ').filter(|item| !item.is_empty() && known.binary_search(item).is_err()).collect();
    if fresh.is_empty() {
        return Vec::new();
    }
    let nets: Vec<IpNet> = others.split(' ').filter_map(prefix).collect();
    let mut out = Vec::new();
    for item in fresh {
        match prefix(item) {
            // Lists are aggregated: 10.0.0.0/24 may be there as half of 10.0.0.0/23.
            Some(net) if nets.iter().any(|other| net.contains(other) || other.contains(&net)) => {
                uncovered(net, &nets, &mut out);
            }
            _ => out.push(item.to_owned()),
        }
    }
    out
}

fn prefix(item: &str) -> Option<IpNet> {
    item.parse().ok().or_else(|| item.parse().ok().map(|host: std::net::IpAddr| IpNet::from(host)))
}

fn uncovered(net: IpNet, others: &[IpNet], out: &mut Vec<String>) {
    let here: Vec<IpNet> =
        others.iter().filter(|other| net.contains(*other) || other.contains(&net)).copied().collect();
    if here.is_empty() {
        out.push(net.to_string());
    } else if !here.iter().any(|other| other.contains(&net)) {
        // Two halves, each with fewer of the others: ends at the longest prefix among them.
        for half in net.subnets(net.prefix_len() + 1).into_iter().flatten() {
            uncovered(half, &here, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::sentence::sentences;
    use crate::policy::{Stance, compose, samples};

    fn said(settings: &crate::config::Settings, stance: &Stance) -> Vec<Sentence> {
        sentences(&compose(stance, settings, &samples::full_facts()).unwrap())
    }

    fn lines(found: &[Difference]) -> Vec<String> {
        let line = |sign: char, row: Row, sentence: &Sentence| {
            format!("{sign} {} {} {}", row.number(), sentence.words(), sentence.items)
        };
        found
            .iter()
            .flat_map(|found| {
                let now = found.now.iter().map(|sentence| line('+', found.row, sentence));
                now.chain(found.gone.iter().map(|sentence| line('-', found.row, sentence)))
            })
            .collect()
    }

    #[test]
    fn the_same_is_no_difference() {
        for case in samples::cases() {
            let all = said(&case.settings, &case.stance);
            assert_eq!(difference(&all, &all), [], "{}", case.name);
        }
    }

    #[test]
    fn a_prefix_that_is_listed_is_named_in_its_row_alone() {
        let stance = Stance::Blocked { api: false };
        let old = samples::full();
        let mut new = old.clone();
        new.allow_wan_private.push("192.168.101.0/24".parse().unwrap());
        let (old, new) = (said(&old, &stance), said(&new, &stance));
        let found = difference(&old, &new);
        // Aggregated to a /23 it must not look as if the former /24 were gone.
        assert_eq!(
            lines(&found),
            [
                "+ 2.8 a listed prefix behind the WAN is reached (router to WAN, LAN to WAN): to 192.168.101.0/24",
                "+ 2.8 a listed prefix behind the WAN answers (WAN to router, WAN to LAN): of a known flow, answers only, from 192.168.101.0/24",
                "+ 2.8 ICMP errors from a listed prefix behind the WAN (WAN to router, WAN to LAN): ICMP, about a known flow, from 192.168.101.0/24",
            ]
        );
        let back = difference(&new, &old);
        assert_eq!(back.len(), 1);
        assert_eq!(
            (&back[0].gone, back[0].now.len()),
            (&found[0].now, 0),
            "the way back is the mirror image"
        );
    }

    #[test]
    fn rows_come_in_the_contracts_order_and_each_way_mirrors_the_other() {
        let cases = samples::cases();
        for a in &cases {
            for b in &cases {
                let (old, new) = (said(&a.settings, &a.stance), said(&b.settings, &b.stance));
                let there = difference(&old, &new);
                assert!(there.windows(2).all(|pair| pair[0].row < pair[1].row), "{} {}", a.name, b.name);
                let back: Vec<_> = difference(&new, &old)
                    .into_iter()
                    .map(|d| Difference { row: d.row, now: d.gone, gone: d.now })
                    .collect();
                assert_eq!(there, back, "{} {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn what_is_left_of_a_prefix_is_said_exactly() {
        let strings = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (items, others, left) in [
            (&["10.0.0.0/24"][..], &["10.0.0.0/23"][..], &[][..]),
            (&["10.0.0.0/23"], &["10.0.0.0/24"], &["10.0.1.0/24"]),
            (
                &["10.0.0.0/24", "br-lan"],
                &["10.0.0.7"],
                &[
                    "10.0.0.0/30",
                    "10.0.0.4/31",
                    "10.0.0.6/32",
                    "10.0.0.8/29",
                    "10.0.0.16/28",
                    "10.0.0.32/27",
                    "10.0.0.64/26",
                    "10.0.0.128/25",
                    "br-lan",
                ],
            ),
            (&["::/0"], &["10.0.0.0/8"], &["::/0"]),
            (&["br-lan", "br-guest"], &["br-guest"], &["br-lan"]),
        ] {
            assert_eq!(without(&items.join(" "), &others.join(" ")), strings(left), "{items:?} {others:?}");
        }
    }
}
