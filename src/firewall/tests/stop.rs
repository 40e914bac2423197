//! The stop ahead of the flowtables, with the real nft and the real kernel. Needs root.

use std::path::PathBuf;
use std::process::Command;

use super::failures::FalseNft;
use super::kernel::in_namespace;
use crate::config::IfName;
use crate::firewall::evaluate::{Devices, Evaluator, Flow, Hook, Packet, Verdict, World};
use crate::firewall::{Error, Nft, Ruleset, compile, compile_stop, hardware_flowtables};
use crate::policy::{Entrances, PolicyState, Stance, Stop, compose, samples, stop};

fn ruleset() -> Ruleset {
    let stance = samples::connected("203.0.113.1:51820");
    compile(&compose(&stance, &samples::full(), &samples::full_facts()).unwrap())
}

/// Other rules than [`ruleset`], of the same state.
fn quiet() -> Ruleset {
    let all = ruleset();
    let rules = all.without_log().iter().cloned().collect();
    Ruleset::new(all.state(), all.sets().to_vec(), all.chains().to_vec(), rules)
}

/// Of a home whose LAN comes in by these.
fn stop_of(devices: &[&str]) -> Stop {
    let policy = compose(&Stance::Boot, &samples::full(), &samples::full_facts()).unwrap();
    let devices = devices.iter().map(|name| name.parse().unwrap()).collect();
    let own = vec!["198.51.100.7".parse().unwrap(), "2001:db8:203::7".parse().unwrap()];
    stop(&policy, &samples::full(), &Entrances { devices, own }).unwrap()
}

fn sh(words: &str) -> String {
    let output = Command::new("sh").args(["-ec", words]).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn tables() -> Vec<String> {
    sh("nft list tables").lines().map(str::to_owned).collect()
}

const BOTH: [&str; 2] = ["table inet vpnd", "table inet vpnd_stop"];

#[test]
fn it_comes_with_the_policy_and_goes_by_itself() {
    in_namespace(|| {
        sh("ip link add lan1 type veth peer name lan2");
        let (nft, ruleset, stop) = (Nft::new("nft".into()), ruleset(), stop_of(&["lan1", "lan2"]));
        let (in_force, missing) = nft.apply_stopping(&ruleset, Some(&stop)).unwrap();
        assert_eq!((in_force.hash, missing), (ruleset.hash().unwrap(), None), "it is no part of the policy");
        assert_eq!(nft.in_force().unwrap(), Some(in_force));
        assert_eq!(tables(), BOTH);
        let listed = sh("nft list table inet vpnd_stop");
        for device in ["lan1", "lan2"] {
            let hook = format!("type filter hook ingress device \"{device}\" priority -500; policy accept;");
            assert!(listed.contains(&hook), "{listed}");
        }
        nft.end_stop().unwrap();
        assert_eq!(tables(), BOTH[..1]);
        nft.end_stop().unwrap();
        assert_eq!(nft.in_force().unwrap(), Some(in_force));
    });
}

#[test]
fn a_policy_without_one_ends_a_former_one_and_so_does_none() {
    in_namespace(|| {
        sh("ip link add lan1 type veth peer name lan2");
        let (nft, ruleset, stop) = (Nft::new("nft".into()), ruleset(), stop_of(&["lan1"]));
        let stopped = || {
            nft.apply_stopping(&ruleset, Some(&stop)).unwrap();
            assert_eq!(tables(), BOTH);
        };
        stopped();
        nft.apply(&ruleset).unwrap();
        assert_eq!(tables(), BOTH[..1]);
        stopped();
        nft.remove().unwrap();
        assert_eq!(tables(), [""; 0]);
    });
}

/// Where the kernel refuses it, as those before 6.16 do with a device that is missing.
#[test]
fn without_it_the_policy_comes_all_the_same() {
    in_namespace(|| {
        let refuses = "[ $load = 1 ] && { cat >in; grep -q '\"ingress\"' in && { echo no such device >&2; exit 1; }; \
                       exec nft \"$@\" <in; }";
        let program = FalseNft::new("no-ingress", refuses);
        let (in_force, missing) =
            program.patient().apply_stopping(&ruleset(), Some(&stop_of(&["lan1"]))).unwrap();
        assert_eq!(in_force.hash, ruleset().hash().unwrap());
        assert!(missing.unwrap().contains("no such device"));
        assert_eq!(tables(), BOTH[..1]);
    });
}

/// One refusal must not be taken for the other's.
#[test]
fn a_kernel_that_cannot_log_has_it_all_the_same() {
    in_namespace(|| {
        sh("ip link add lan1 type veth peer name lan2");
        let cannot = "[ $load = 1 ] && { cat >in; grep -q '\"log\"' in && { echo no log >&2; exit 1; }; \
                      exec nft \"$@\" <in; }";
        let program = FalseNft::new("mute-stop", cannot);
        let nft = program.patient();
        for _ in 0..2 {
            let (in_force, missing) = nft.apply_stopping(&ruleset(), Some(&stop_of(&["lan1"]))).unwrap();
            assert_eq!((in_force.hash, missing), (ruleset().without_log().hash().unwrap(), None));
            assert!(nft.mute());
            assert_eq!(tables(), BOTH);
        }
        let neither = "[ $load = 1 ] && { cat >in; grep -qE '\"(log|ingress)\"' in && { echo neither >&2; exit 1; }; \
                       exec nft \"$@\" <in; }";
        let program = FalseNft::new("neither", neither);
        let (in_force, missing) =
            program.patient().apply_stopping(&ruleset(), Some(&stop_of(&["lan1"]))).unwrap();
        assert_eq!(
            (in_force.state, in_force.hash),
            (PolicyState::Connected, ruleset().without_log().hash().unwrap())
        );
        assert!(missing.unwrap().contains("neither"));
        assert_eq!(tables(), BOTH[..1]);
    });
}

#[test]
fn it_goes_with_a_policy_that_is_taken_back() {
    in_namespace(|| {
        sh("ip link add lan1 type veth peer name lan2");
        let before = Nft::new("nft".into()).apply(&quiet()).unwrap();
        let adds = "[ $load$times = 11 ] && { nft \"$@\"; exec nft add rule inet vpnd forward accept; }";
        let program = FalseNft::new("adds-stop", adds);
        let error = program.patient().apply_stopping(&ruleset(), Some(&stop_of(&["lan1"]))).unwrap_err();
        assert!(matches!(&error, Error::Differs { .. }), "{error}");
        assert_eq!(Nft::new("nft".into()).in_force().unwrap(), Some(before));
        assert_eq!(tables(), BOTH[..1]);
    });
}

#[test]
fn the_socket_ends_no_other_table() {
    in_namespace(|| {
        sh("ip link add lan1 type veth peer name lan2");
        let nft = Nft::new(PathBuf::from("nft"));
        nft.apply_stopping(&ruleset(), Some(&stop_of(&["lan1"]))).unwrap();
        assert!(crate::firewall::nfnetlink::delete_table("nobody-has-this").is_ok(), "absent is fine");
        assert_eq!(tables(), BOTH);
        crate::firewall::nfnetlink::delete_table("vpnd_stop").unwrap();
        assert_eq!(tables(), BOTH[..1]);
    });
}

/// This kernel has no flowtables: that the list is one of them is seen in the guests.
#[test]
fn flowtables_are_listed() {
    in_namespace(|| assert_eq!(hardware_flowtables().unwrap(), [""; 0]));
}

#[test]
fn the_evaluator_knows_it() {
    let (chains, rules) = compile_stop(&stop_of(&["br-lan", "lan1"]));
    let evaluator = Evaluator::of_objects(&[], &chains, &rules).unwrap();
    let verdict = |device: &str, to: &str| {
        let destination: std::net::IpAddr = to.parse().unwrap();
        let source = if destination.is_ipv4() { "192.168.1.20" } else { "fd00:1::20" };
        let mut packet = Packet {
            source: source.parse().unwrap(),
            destination,
            protocol: 17,
            transport: vec![0; 8],
            hop_limit: 64,
            mark: 0,
        };
        let devices = Devices { iif: Some(device.parse::<IfName>().unwrap()), oif: None };
        let (mut flow, world) = (Flow::new(), World::default());
        evaluator.hook(Hook::Ingress, &mut packet, &devices, &mut flow, &world).unwrap().verdict
    };
    for device in ["br-lan", "lan1"] {
        for home in ["192.168.1.1", "198.51.100.7", "10.9.1.1", "239.1.1.1", "fd00:1::9", "ff02::1"] {
            assert_eq!(verdict(device, home), Verdict::Accept, "{device} {home}");
        }
        for out in ["1.1.1.1", "198.51.100.8", "2001:db8:203::8", "64:ff9b::1"] {
            assert_eq!(verdict(device, out), Verdict::Drop, "{device} {out}");
        }
    }
    assert_eq!(verdict("eth1", "1.1.1.1"), Verdict::Accept, "of another device it sees nothing");
}
