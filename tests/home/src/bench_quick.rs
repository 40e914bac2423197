//! The other side of the bench: `wg-quick` with the kill switch that its manual documents, on the
//! same router, to the same relays.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::house::at;
use crate::ns::Netns;
use crate::town::Town;

/// wg-quick(8), section EXAMPLES.
const KILL_SWITCH: &str = "iptables -X OUTPUT ! -o %i -m mark ! --mark $(wg show %i fwmark) -m addrtype ! --dst-type LOCAL -j REJECT";

pub struct Quick {
    confs: Vec<PathBuf>,
}

impl Quick {
    /// Writes a file for each relay, and lets the router's own firewall forward to the devices.
    ///
    /// # Errors
    /// When a file cannot be written or nft refuses.
    pub fn install(town: &Town) -> Result<Self> {
        let dir = town.dir.join("quick");
        std::fs::create_dir_all(&dir)?;
        let mut confs = Vec::new();
        for (n, relay) in town.config.relays.iter().enumerate() {
            let path = dir.join(format!("quick{n}.conf"));
            let text = format!(
                "[Interface]
PrivateKey = {key}
Address = {v4}/32, {v6}/128
PostUp = {up}
PreDown = {down}
[Peer]
PublicKey = {peer}
Endpoint = {endpoint}
AllowedIPs = 0.0.0.0/0, ::/0
",
                key = town.config.private_key,
                v4 = at::TUNNEL[0],
                v6 = at::TUNNEL[1],
                up = KILL_SWITCH.replace("-X", "-I"),
                down = KILL_SWITCH.replace("-X", "-D"),
                peer = relay.public_key,
                endpoint = relay.endpoint,
            );
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            confs.push(path);
        }
        town.house.router.nft(
            "insert rule inet fw4 forward iifname { br-lan, br-guest } oifname \"quick*\" accept
             table inet quick { chain out { type nat hook postrouting priority srcnat; oifname \"quick*\" masquerade; }; }",
        )?;
        Ok(Self { confs })
    }

    /// Starts `wg-quick up` to relay `n`.
    ///
    /// # Errors
    /// When bash cannot be started.
    pub fn up(&self, router: &Netns, n: usize) -> Result<Child> {
        self.start(router, &format!("wg-quick up {}", self.path(n)?))
    }

    /// Starts `wg-quick down` of relay `from`, then `up` to relay `to`.
    ///
    /// # Errors
    /// As [`Quick::up`].
    pub fn change(&self, router: &Netns, from: usize, to: usize) -> Result<Child> {
        self.start(router, &format!("wg-quick down {} && wg-quick up {}", self.path(from)?, self.path(to)?))
    }

    /// # Errors
    /// As [`Quick::up`].
    pub fn down(&self, router: &Netns, n: usize) -> Result<Child> {
        self.start(router, &format!("wg-quick down {}", self.path(n)?))
    }

    fn path(&self, n: usize) -> Result<String> {
        Ok(self.confs.get(n).context("no such relay")?.display().to_string())
    }

    fn start(&self, router: &Netns, line: &str) -> Result<Child> {
        let mut command = Command::new("bash");
        // wg-quick tells every step on its standard error.
        command.args(["-c", &format!("{{ {line}; }} 2>&1")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        router.spawn(&mut command)
    }
}

/// Waits for a program that must succeed.
///
/// # Errors
/// When it does not, with its words.
pub fn finish(child: Child) -> Result<()> {
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stdout).trim());
}
