//! `vpnd relays`: from the daemon, or from the configuration if it is down.

use super::args::Input;
use super::{DONE, FAILED, Outcome, ask, text};
use crate::config;
use crate::control::client::{self, Error};
use crate::control::{RelayStatus, Reply, Request};

pub fn run(input: &Input) -> Outcome {
    let filter = input.values.first().cloned().filter(|f| !f.is_empty());
    let relays =
        match client::call(&input.run_dir, &Request::Relays { filter: filter.clone() }, ask::PATIENCE) {
            Ok(Reply::Relays(relays)) => relays,
            Ok(_) => return Err("the daemon's reply makes no sense".to_owned()),
            Err(error @ Error::Refused { .. }) => return Err(error.to_string()),
            Err(error) => {
                eprintln!(
                    "vpnd relays: {}; reading {}",
                    text::clean(&error.to_string()),
                    input.config_dir.join("vpnd").display()
                );
                configured(input, filter.as_deref())?
            }
        };
    if input.flag("json") {
        text::say(&serde_json::to_string_pretty(&relays).map_err(|e| e.to_string())?);
    } else if !relays.is_empty() {
        text::say(&table(&relays));
    }
    if relays.is_empty() && !input.flag("json") {
        eprintln!("vpnd relays: none{}", if filter.is_some() { " that fits" } else { " configured" });
        return Ok(FAILED);
    }
    Ok(DONE)
}

fn configured(input: &Input, filter: Option<&str>) -> Result<Vec<RelayStatus>, String> {
    let loaded = config::load(&input.config_dir);
    if let Some(problem) = loaded.problems.first() {
        return Err(format!("{problem}; 'vpnd check' says all that is wrong"));
    }
    let all = loaded.settings.relays.iter().map(RelayStatus::from);
    Ok(all.filter(|relay| filter.is_none_or(|text| relay.matches(text))).collect())
}

fn table(relays: &[RelayStatus]) -> String {
    let name = relays.iter().map(|r| r.name.as_str().len()).max().unwrap_or(0);
    let place = |r: &RelayStatus| format!("{} {}", r.country, r.city).trim().to_owned();
    let wide = relays.iter().map(|r| place(r).chars().count()).max().unwrap_or(0);
    let lines: Vec<_> = relays
        .iter()
        .map(|r| format!("{:name$}  {:wide$}  {}", r.name.as_str(), place(r), r.endpoint))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let relay = |name: &str, country: &str, city: &str| RelayStatus {
            name: name.parse().unwrap(),
            endpoint: "[2001:db8::1]:51820".parse().unwrap(),
            country: country.into(),
            city: city.into(),
        };
        let relays = [relay("a", "Österreich", "Wien"), relay("se-got-001", "", "")];
        let expected = "a           Österreich Wien  [2001:db8::1]:51820\n\
                        se-got-001                   [2001:db8::1]:51820";
        assert_eq!(table(&relays), expected);
        assert!(relays[0].matches("öster") && relays[0].matches("WIEN") && !relays[1].matches("wien"));
    }
}
