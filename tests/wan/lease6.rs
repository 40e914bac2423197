//! Row 2.4 by ISC's dhclient and dhcpd: an address (IA_NA) and a prefix (IA_PD) of 6 seconds.

use std::process::Child;
use std::time::Duration;

use crate::lease::{unpacked, without_row};
use crate::router::{Dhcp, Router, assert_listed, dhcp, end};

const WAN: &str = "config interface 'wan6'\n\toption device 'wan0'\n\toption proto 'dhcpv6'\n";
const LEASE: Duration = Duration::from_secs(6);

const SERVER_CONFIG: &str = "authoritative;\ndefault-lease-time 6;\npreferred-lifetime 5;\n\
    option dhcp-renewal-time 2;\noption dhcp-rebinding-time 3;\n\
    subnet6 2001:db8:203::/64 {\n range6 2001:db8:203::100 2001:db8:203::100;\n prefix6 2001:db8:500:: 2001:db8:500:: /56;\n}\n";

/// What netifd does with an address: it lives as long as the server says. Prefixes are written down.
const SCRIPT: &str = "#!/bin/sh
echo \"$reason $new_ip6_address$new_ip6_prefix\" >> DIR/leases
case \"$reason:$new_ip6_address\" in
BOUND6:?* | RENEW6:?* | REBIND6:?*)
	ip -6 addr replace \"$new_ip6_address/128\" dev \"$interface\" valid_lft \"$new_max_life\" preferred_lft \"$new_preferred_life\"
	;;
esac
exit 0
";

struct Lease {
    children: Vec<Child>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.children.drain(..).for_each(|child| end(Some(child)));
    }
}

impl Lease {
    fn ask(r: &Router) -> Self {
        let programs = unpacked(&["isc-dhcp-client", "isc-dhcp-server"]);
        let (programs, dir) = (programs.display(), r.dir.display().to_string());
        for (file, text) in [
            ("script", SCRIPT),
            ("server.conf", SERVER_CONFIG),
            ("client.conf", ""),
            ("given", ""),
            ("had", ""),
        ] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(r.dir.join(file), text.replace("DIR", &dir)).unwrap();
            std::fs::set_permissions(r.dir.join(file), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let files =
            |conf: &str, leases: &str| format!("-d -cf {dir}/{conf} -lf {dir}/{leases} -pf {dir}/{conf}.pid");
        let server = format!("{programs}/usr/sbin/dhcpd -6 {} eth0", files("server.conf", "given"));
        let client = format!(
            "{programs}/sbin/dhclient -6 -N -P {} -sf {dir}/script wan0",
            files("client.conf", "had")
        );
        let server = r.spawn("isp", "server", &server);
        r.until("the server listens", |r| r.log("server").contains("Server starting service"));
        let client = r.spawn("rtr", "client", &client);
        let lease = Self { children: vec![server, client] };
        r.until("address and prefix are had", |r| {
            had(r, "BOUND6 2001:db8:203::100") == 1 && had(r, "BOUND6 2001:db8:500::/56") == 1
        });
        lease
    }

    /// Stops the server for a while: it is there, and answers nothing.
    fn server(&self, signal: i32) {
        // SAFETY: plain call; the child is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(self.children[0].id() as i32, signal) }, 0);
    }
}

/// How often the script was told exactly this.
fn had(r: &Router, line: &str) -> usize {
    r.log("leases").lines().filter(|found| *found == line).count()
}

fn address(r: &Router) -> bool {
    r.rtr("ip -6 addr show dev wan0 to 2001:db8:203::100").contains("2001:db8:203::100")
}

/// The address stays while `work` lasts; the client's messages meanwhile.
#[track_caller]
fn kept(r: &Router, work: impl FnOnce()) -> Vec<u8> {
    let monitor = r.spawn("rtr", "addresses", "ip -o monitor address");
    let frames = r.under_flood(&["wan0"], work);
    end(Some(monitor));
    assert_listed(&frames, None);
    let gone =
        r.log("addresses").lines().any(|line| line.contains("Deleted") && line.contains("2001:db8:203::100"));
    assert!(!gone && address(r), "the address vanished: {}\n{}", r.log("addresses"), r.log("client"));
    frames
        .iter()
        .filter_map(|frame| match dhcp(frame)? {
            Dhcp::V6(kind) => Some(kind),
            _ => None,
        })
        .collect()
}

const RENEW: u8 = 5;
const REBIND: u8 = 6;

#[test]
fn an_ipv6_lease_and_prefix_survive_three_lease_times() {
    let r = Router::new(WAN);
    r.leaves_while_open(&["wan0"], &super::both());
    r.rtr("ip addr flush dev wan0 scope global");
    r.blocked();
    let lease = Lease::ask(&r);
    let sent = kept(&r, || std::thread::sleep(LEASE * 3));
    let renewed = (had(&r, "RENEW6 2001:db8:203::100"), had(&r, "RENEW6 2001:db8:500::/56"));
    assert!(renewed.0 >= 3 && renewed.1 >= 3 && sent.contains(&RENEW), "{renewed:?}, {sent:?}");

    // Rebound, after the server did not answer for as long as a renewal is tried.
    let sent = kept(&r, || {
        lease.server(libc::SIGSTOP);
        r.until("the client rebinds", |r| r.log("client").contains("XMT: Rebind on wan0"));
        lease.server(libc::SIGCONT);
        r.until("it is answered", |r| {
            had(r, "REBIND6 2001:db8:203::100") + had(r, "REBIND6 2001:db8:500::/56") >= 2
        });
    });
    assert!(sent.contains(&REBIND), "{sent:?}");

    // The control: without the row both are lost.
    r.kill();
    let rules = without_row(&r, "2.4");
    assert!(rules >= 6, "{rules} rules");
    let frames = r.under_flood(&["wan0"], || r.within(LEASE * 2, "the address is lost", |r| !address(r)));
    assert_listed(&frames, None);
    assert_eq!(
        frames.iter().filter_map(|frame| dhcp(frame)).count(),
        0,
        "and nothing of the client's leaves"
    );
    r.until("the client says so", |r| r.log("leases").contains("EXPIRE6"));
}
