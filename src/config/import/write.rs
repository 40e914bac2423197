//! Putting an import into the text of `/etc/config/vpnd`.

use std::net::SocketAddr;

use super::{Imported, Peer, PeerEndpoint};
use crate::config::uci::{EditError, NewSection, NewValue, Package, Section, Value, parse, replace};
use crate::config::value::base64;
use crate::sorted::Set;

/// The new text of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub text: Vec<u8>,
    /// Sentences for the person who imports.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("relay '{0}': its endpoint is a name that was not resolved")]
    Unresolved(String),
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// The text `existing` with the import in it: the tunnel takes the place of the one that was there,
/// each relay that of the relay with its name; all else stays, comments included. Without a
/// `config vpnd 'main'` one is added, not enabled.
///
/// # Errors
/// When an endpoint is still a name, or `existing` cannot be read or changed safely.
pub fn write(imported: &Imported, existing: &[u8]) -> Result<Written, WriteError> {
    let before = parse(existing).map_err(EditError::from)?;
    let private_key = base64(&imported.private_key);
    let old_tunnel = before.sections.iter().find(|section| section.kind == "tunnel");
    let same_key =
        old_tunnel.is_some_and(|old| old.text("private_key").is_some_and(|old| old == private_key));
    let mut sections = Vec::new();
    if !before.sections.iter().any(|section| section.kind == "vpnd" && section.name == "main") {
        sections.push(NewSection {
            kind: "vpnd",
            name: Some("main".to_owned()),
            options: vec![("enabled", NewValue::Text("0".to_owned()))],
        });
    }
    sections.push(tunnel(imported, private_key, old_tunnel.filter(|_| same_key)));
    let mut taken: Set<String> = before.sections.iter().map(|section| (section.name.clone(), ())).collect();
    let mut names = Vec::new();
    for peer in &imported.peers {
        let old = before.sections.iter().find(|section| is_relay(section, peer.name.as_str()));
        sections.push(relay(peer, old, &mut taken)?);
        names.push(peer.name.as_str());
    }
    let replaces = |new: &NewSection, old: &Section| {
        old.kind == new.kind && (new.kind == "tunnel" || is_relay(old, relay_name(new)))
    };
    let text = replace(existing, &sections, replaces)?;
    Ok(Written { text, warnings: warnings(&before, old_tunnel.is_some() && !same_key, &names) })
}

fn warnings(before: &Package, other_key: bool, names: &[&str]) -> Vec<String> {
    let strangers: Vec<String> = before
        .sections
        .iter()
        .filter(|section| section.kind == "relay" && !names.iter().any(|n| is_relay(section, n)))
        .map(|section| section.text("name").unwrap_or_else(|| section.name.clone()))
        .map(|name| crate::config::problem::shown("", name.as_bytes()))
        .collect();
    if !other_key || strangers.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "the tunnel's key is another one now; these relays were there before and may not know it: \
         {}",
        strangers.join(", ")
    )]
}

fn is_relay(section: &Section, name: &str) -> bool {
    section.kind == "relay"
        && match section.text("name") {
            Some(own) => own == name,
            None => !section.anonymous && section.name == name,
        }
}

fn relay_name(section: &NewSection) -> &str {
    let option = section.options.iter().find_map(|(option, value)| match value {
        NewValue::Text(text) if *option == "name" => Some(text.as_str()),
        _ => None,
    });
    option.or(section.name.as_deref()).unwrap_or("")
}

fn tunnel(imported: &Imported, private_key: String, old: Option<&Section>) -> NewSection {
    let mut options = vec![
        ("private_key", NewValue::Text(private_key)),
        ("address", list(&imported.addresses)),
        ("dns", list(&imported.dns)),
    ];
    if let Some(mtu) = imported.mtu {
        options.push(("mtu", NewValue::Text(mtu.to_string())));
    }
    // What no .conf file can hold stays, as long as it is the same tunnel.
    options.extend(old.and_then(|old| kept(old, "probe")));
    NewSection { kind: "tunnel", name: None, options }
}

fn relay(peer: &Peer, old: Option<&Section>, taken: &mut Set<String>) -> Result<NewSection, WriteError> {
    let endpoint: SocketAddr = match &peer.endpoint {
        PeerEndpoint::Address(address) => *address,
        PeerEndpoint::Name { .. } => {
            return Err(WriteError::Unresolved(peer.name.to_string()));
        }
    };
    if let Some(old) = old {
        taken.remove(&old.name);
    }
    let section = section_name(peer.name.as_str(), taken);
    let mut options = Vec::new();
    if section != peer.name.as_str() {
        options.push(("name", NewValue::Text(peer.name.to_string())));
    }
    options.push(("endpoint", NewValue::Text(endpoint.to_string())));
    options.push(("public_key", NewValue::Text(base64(&peer.public_key))));
    if let Some(key) = &peer.preshared_key {
        options.push(("preshared_key", NewValue::Text(base64(key))));
    }
    options.push(("allowed_ip", list(&peer.allowed_ips)));
    for option in ["country", "city"] {
        options.extend(old.and_then(|old| kept(old, option)));
    }
    Ok(NewSection { kind: "relay", name: Some(section), options })
}

/// A name that UCI can give a section, not used yet. `cfg…` is left to the names that libuci makes
/// up for anonymous sections.
fn section_name(name: &str, taken: &mut Set<String>) -> String {
    let mut base: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if base.starts_with("cfg") {
        base.insert_str(0, "relay_");
    }
    let mut candidate = base.clone();
    let mut count = 1_u32;
    while !taken.add(candidate.clone()) {
        count += 1;
        candidate = format!("{base}_{count}");
    }
    candidate
}

fn list<T: ToString>(items: &[T]) -> NewValue {
    NewValue::List(items.iter().map(ToString::to_string).collect())
}

fn kept(section: &Section, option: &'static str) -> Option<(&'static str, NewValue)> {
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).ok();
    let value = match &section.get(option)?.value {
        Value::Text(item) => NewValue::Text(text(&item.bytes)?),
        Value::List(items) => {
            NewValue::List(items.iter().map(|item| text(&item.bytes)).collect::<Option<Vec<_>>>()?)
        }
    };
    Some((option, value))
}
