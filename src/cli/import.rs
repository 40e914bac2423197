//! `vpnd import FILE.conf`: a wg-quick file into `/etc/config/vpnd`, everything else in it kept.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use super::args::Input;
use super::{DONE, Outcome, ask, kernel, text};
use crate::config;
use crate::config::import::{self, Imported, MAX_BYTES, PeerEndpoint};
use crate::control::Request;
use crate::state;

pub fn run(input: &Input) -> Outcome {
    let path = Path::new(input.values.first().map_or("", String::as_str));
    let mut imported = parsed(path)?;
    if let Some(name) = input.option("name") {
        rename(&mut imported, name)?;
    }
    for warning in &imported.warnings {
        text::say(&format!("warning: {warning}"));
    }
    resolve(&mut imported, kernel::table().map(|table| table.is_none()))?;
    // A link stays a link: what it points at is replaced.
    let target = input.config_dir.join("vpnd");
    let target = fs::canonicalize(&target).unwrap_or(target);
    let existing = match fs::read(&target) {
        Ok(existing) => existing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(format!("{}: cannot be read: {e}", target.display())),
    };
    let written = import::write(&imported, &existing).map_err(|e| format!("{}: {e}", target.display()))?;
    state::write_atomic(&target, &written.text).map_err(|e| e.to_string())?;
    for warning in &written.warnings {
        text::say(&format!("warning: {warning}"));
    }
    let names: Vec<_> = imported.peers.iter().map(|peer| peer.name.as_str()).collect();
    text::say(&format!("imported into {}: tunnel, relay {}", target.display(), names.join(", ")));
    afterwards(input);
    Ok(DONE)
}

fn parsed(path: &Path) -> Result<Imported, String> {
    let mut data = Vec::new();
    // One byte more than may be there, so that the parser sees that it is too large.
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut data))
        .map_err(|e| format!("{}: cannot be read: {e}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    import::parse(&name, &data).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        format!("nothing was imported\n{}", lines.join("\n"))
    })
}

fn rename(imported: &mut Imported, name: &str) -> Result<(), String> {
    let parsed = name.parse().map_err(|e| format!("--name: '{name}' {e}"))?;
    match imported.peers.as_mut_slice() {
        [peer] => {
            peer.name = parsed;
            Ok(())
        }
        peers => Err(format!("--name: the file has {} peers; a name fits only one", peers.len())),
    }
}

/// Names are looked up while the router is open, and only then (contract, section 3): a resolver
/// outside the tunnel would learn, and could choose, where the tunnel goes.
fn resolve(imported: &mut Imported, open: Result<bool, String>) -> Result<(), String> {
    for peer in &mut imported.peers {
        let PeerEndpoint::Name { host, port } = &peer.endpoint else { continue };
        match &open {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!(
                    "relay '{}': its endpoint '{host}' is a name, and the router is not open to look it up; \
                     put its address into the file, or import it after 'vpnd disconnect'",
                    peer.name
                ));
            }
            Err(why) => {
                return Err(format!(
                    "relay '{}': its endpoint '{host}' is a name, and whether the router is open to look it \
                     up cannot be told ({why}); put its address into the file",
                    peer.name
                ));
            }
        }
        let found: SocketAddr = (host.as_str(), *port)
            .to_socket_addrs()
            .map_err(|e| format!("relay '{}': '{host}' cannot be looked up: {e}", peer.name))?
            .next()
            .ok_or_else(|| format!("relay '{}': '{host}' has no address", peer.name))?;
        text::say(&format!("relay '{}': '{host}' is {} now; that is what was stored", peer.name, found.ip()));
        peer.endpoint = PeerEndpoint::Address(found);
    }
    Ok(())
}

/// What is wrong with the whole now, and a daemon that should know of it.
fn afterwards(input: &Input) {
    for problem in config::load(&input.config_dir).problems {
        text::say(&format!("still wrong: {problem}"));
    }
    match ask::done(&input.run_dir, &Request::Reload) {
        Ok(_) => text::say("the daemon has read it"),
        Err(error) => text::say(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &[u8] = b"[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n\
        Address = 10.64.0.2/32\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
        AllowedIPs = 0.0.0.0/0\nEndpoint = localhost:51820\n";

    #[test]
    fn a_name_is_looked_up_only_while_the_router_is_open() {
        let imported = import::parse("se.conf", CONF).unwrap();
        for (open, words) in [(Ok(false), "not open"), (Err("no nft".to_owned()), "cannot be told (no nft)")]
        {
            let mut closed = imported.clone();
            let error = resolve(&mut closed, open).unwrap_err();
            assert!(error.contains(words) && error.contains("'localhost' is a name"), "{error}");
            assert_eq!(closed, imported);
        }
        let mut open = imported;
        resolve(&mut open, Ok(true)).unwrap();
        assert!(matches!(open.peers[0].endpoint, PeerEndpoint::Address(a) if a.port() == 51820));
        rename(&mut open, "mine").unwrap();
        assert_eq!(open.peers[0].name.as_str(), "mine");
        assert!(rename(&mut open, "a b").is_err());
    }
}
