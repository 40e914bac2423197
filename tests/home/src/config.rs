//! The configuration folder of the router under test, as UCI files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::house::at;

/// One relay of `/etc/config/vpnd`.
#[derive(Debug, Clone)]
pub struct RelayEntry {
    pub name: String,
    pub endpoint: String,
    /// Base64.
    pub public_key: String,
}

#[derive(Debug, Clone)]
pub struct Config {
    /// Base64.
    pub private_key: String,
    pub relays: Vec<RelayEntry>,
    /// Lines of `config vpnd 'main'` beyond the LAN, e.g. `option lockdown '1'`.
    pub main: Vec<String>,
}

/// A key for tests that never shake hands: 32 equal bytes in base64.
#[must_use]
pub fn paper_key(byte: u8) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in [byte; 32].chunks(3) {
        let bits = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out.push('=');
    out
}

/// The exceptions that the tests of rows 2.7 to 2.9, 3.2 and 3.4 need.
#[must_use]
pub fn exceptions() -> Vec<String> {
    [
        "list lan_route '192.168.50.0/24 via 192.168.1.20'",
        "list lan_route 'fd00:50::/64 via fd00:1::20'",
        "list allow_wan_private '192.168.100.0/24'",
        "list allow_wan_private 'fd00:100::/64'",
        "list allow_wan_multicast '239.1.0.0/16'",
        "list allow_wan_service 'tcp 2222 198.51.100.0/24'",
        "list allow_wan_service 'udp 2223 198.51.100.0/24'",
        "list allow_wan_service 'udp 2223 2001:db8:100::/64'",
        "list allow_tunnel_forward 'tcp 8443 192.168.1.20 443'",
        "list allow_tunnel_forward 'udp 8444 fd00:1::20'",
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Config {
    /// Three relays that nobody answers for: enough to compile rules from. The third is reached
    /// over IPv6.
    #[must_use]
    pub fn on_paper() -> Self {
        let endpoint = |n: usize| match n {
            2 => format!("[{}]:{}", at::RELAYS[n][1], at::RELAY_PORT),
            _ => format!("{}:{}", at::RELAYS[n][0], at::RELAY_PORT),
        };
        let relays = (0..3)
            .map(|n| RelayEntry {
                name: format!("r{}", n + 1),
                endpoint: endpoint(n),
                public_key: paper_key(n as u8 + 2),
            })
            .collect();
        Self { private_key: paper_key(1), relays, main: exceptions() }
    }

    /// Writes `vpnd`, `network` and `firewall` into `dir`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        put("vpnd", &self.vpnd())?;
        put("network", NETWORK)?;
        put("firewall", FIREWALL)
    }

    /// The text of `/etc/config/vpnd`.
    #[must_use]
    pub fn vpnd(&self) -> String {
        let mut text = "config vpnd 'main'\n\toption enabled '1'\n\tlist lan_device 'br-guest'\n\tlist lan_device 'br-lan'\n".to_owned();
        for line in &self.main {
            text += &format!("\t{line}\n");
        }
        text += &format!("\nconfig tunnel\n\toption private_key '{}'\n", self.private_key);
        for (address, bits) in at::TUNNEL.iter().zip([32, 128]) {
            text += &format!("\tlist address '{address}/{bits}'\n");
        }
        for resolver in at::RESOLVER {
            text += &format!("\tlist dns '{resolver}'\n");
        }
        for relay in &self.relays {
            text += &format!(
                "\nconfig relay '{}'\n\toption endpoint '{}'\n\toption public_key '{}'\n\tlist allowed_ip '0.0.0.0/0'\n\tlist allowed_ip '::/0'\n",
                relay.name, relay.endpoint, relay.public_key
            );
        }
        text
    }
}

const NETWORK: &str = "\
config interface 'loopback'
\toption device 'lo'
\toption proto 'static'
\tlist ipaddr '127.0.0.1/8'

config device
\toption name 'br-lan'
\toption type 'bridge'
\tlist ports 'lan1'

config device
\toption name 'br-guest'
\toption type 'bridge'
\tlist ports 'guest1'

config interface 'lan'
\toption device 'br-lan'
\toption proto 'static'
\tlist ipaddr '192.168.1.1/24'
\tlist ip6addr 'fd00:1::1/64'

config interface 'guest'
\toption device 'br-guest'
\toption proto 'static'
\tlist ipaddr '192.168.2.1/24'
\tlist ip6addr 'fd00:2::1/64'

config interface 'wan'
\toption device 'wan'
\toption proto 'dhcp'

config interface 'wan6'
\toption device 'wan'
\toption proto 'dhcpv6'
";

const FIREWALL: &str = "\
config defaults
\toption input 'REJECT'
\toption output 'ACCEPT'
\toption forward 'REJECT'

config zone
\toption name 'lan'
\tlist network 'lan'
\tlist network 'guest'
\toption input 'ACCEPT'
\toption output 'ACCEPT'
\toption forward 'ACCEPT'

config zone
\toption name 'wan'
\tlist network 'wan'
\tlist network 'wan6'
\toption input 'REJECT'
\toption output 'ACCEPT'
\toption forward 'REJECT'
\toption masq '1'

config forwarding
\toption src 'lan'
\toption dest 'wan'
";

#[cfg(test)]
mod tests {
    #[test]
    fn paper_keys_are_base64_of_32_bytes() {
        assert_eq!(super::paper_key(0), format!("{}=", "A".repeat(43)));
        assert_eq!(super::paper_key(255), format!("{}8=", "/".repeat(42)));
    }
}
