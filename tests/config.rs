//! Table tests of the configuration: one text file per case under tests/golden/config, holding the
//! files of /etc/config and what is expected of them. `UPDATE_GOLDEN=1` rewrites what is expected.

#![allow(clippy::unwrap_used)] // helpers of tests, outside of test functions

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use vpnd::config::{Loaded, Settings, load};

/// A folder that goes away with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vpnd-config.{}.{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn render(loaded: &Loaded, dir: &Path) -> String {
    let mut out = String::new();
    let dir = dir.display().to_string();
    for (kind, list) in [("problem", &loaded.problems), ("warning", &loaded.warnings)] {
        for entry in list {
            let line = entry.line.map_or_else(|| "-".to_owned(), |line| line.to_string());
            let text = entry.to_string().replace(&dir, "/etc/config");
            writeln!(out, "{kind} ({line}): {text}").unwrap();
        }
    }
    let settings = &loaded.settings;
    for device in &settings.lan.devices {
        write!(out, "lan: {}", device.name).unwrap();
        for prefix in &device.prefixes {
            write!(out, " {prefix}").unwrap();
        }
        out.push_str(if device.forward { "\n" } else { " (nothing forwarded)\n" });
    }
    for route in &settings.lan.routes {
        writeln!(out, "lan route: {} via {} dev {}", route.prefix, route.gateway, route.device).unwrap();
    }
    if loaded.problems.is_empty() {
        render_settings(&mut out, settings);
    } else {
        // Fail closed: nothing but the LAN is taken from a file with problems.
        assert_eq!(*settings, Settings::fallback(settings.lan.clone()));
    }
    out
}

fn render_settings(out: &mut String, settings: &Settings) {
    let Settings { enabled, auto_connect, lockdown, mark, .. } = settings;
    writeln!(out, "enabled {enabled}, auto_connect {auto_connect}, lockdown {lockdown}").unwrap();
    writeln!(out, "mark {:#x}/{:#x}", mark.value(), mark.mask()).unwrap();
    let mut list = |name: &str, items: Vec<String>| {
        for item in items {
            writeln!(out, "{name}: {item}").unwrap();
        }
    };
    fn all<T: std::fmt::Debug>(items: &[T]) -> Vec<String> {
        items.iter().map(|item| format!("{item:?}")).collect()
    }
    list("wan name", settings.wan_names.iter().map(ToString::to_string).collect());
    list("wan pppoe", settings.wan_pppoe.iter().map(ToString::to_string).collect());
    list("allow_wan_private", all(&settings.allow_wan_private));
    list("allow_wan_multicast", all(&settings.allow_wan_multicast));
    list("allow_wan_service", all(&settings.allow_wan_service));
    list("allow_tunnel_forward", all(&settings.allow_tunnel_forward));
    list("resolver", all(&settings.resolvers));
    list("redirect_dns", settings.redirect_dns.then(|| "yes".to_owned()).into_iter().collect());
    list("api", all(&settings.api));
    list("tunnel", all(settings.tunnel.as_slice()));
    list("relay", all(&settings.relays));
}

/// `-- NAME` begins a part; `%xx` in a part stands for that byte, so that a text file can hold any.
fn parts(text: &str) -> BTreeMap<String, Vec<u8>> {
    let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut current = None;
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("-- ") {
            let name = name.trim().to_owned();
            parts.insert(name.clone(), Vec::new());
            current = Some(name);
        } else if let Some(part) = current.as_ref().and_then(|name| parts.get_mut(name)) {
            part.extend(line.as_bytes());
        }
    }
    parts
}

fn unescaped(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

#[test]
fn golden() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&cases).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let folder = Folder::new(&name);
        let parts = parts(&text);
        for (file, data) in parts.iter().filter(|(name, _)| *name != "expected") {
            fs::write(folder.0.join(file), unescaped(data)).unwrap();
        }
        let seen = render(&load(&folder.0), &folder.0);
        assert!(!seen.contains("AAECAwQFBgcICQ"), "{name} shows a key");
        assert!(seen.bytes().all(|b| b == b'\n' || !b.is_ascii_control()), "{name}");
        if update {
            let head = text.split("-- expected\n").next().unwrap();
            fs::write(&path, format!("{head}-- expected\n{seen}")).unwrap();
        } else if parts.get("expected").map(Vec::as_slice) != Some(seen.as_bytes()) {
            wrong.push(format!("{name}:\n{seen}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
    assert!(count >= 10, "only {count} cases were found");
}

const NETWORK: &str = "config interface lan\n option device br-lan\n option proto static\n \
                       option ipaddr 192.168.1.1/24\n";

/// The file that the package installs: right as it is beside a stock router's.
#[test]
fn default_config() {
    let folder = Folder::new("default");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("files/etc/config/vpnd");
    let text = fs::read_to_string(file).unwrap();
    fs::write(folder.0.join("network"), NETWORK).unwrap();
    fs::write(folder.0.join("firewall"), "config zone\n option name lan\n").unwrap();
    fs::write(folder.0.join("vpnd"), &text).unwrap();
    let loaded = load(&folder.0);
    assert_eq!((loaded.problems, loaded.warnings), (vec![], vec![]));
    assert!(!loaded.settings.enabled && loaded.settings.tunnel.is_none());
    assert_eq!(loaded.settings.lan.devices.len(), 1);

    // With every commented option switched on it names each of them rightly: what is left is wrong
    // only for its examples (both LAN lists are fine together, the keys are empty).
    let all_on: String = text
        .lines()
        .map(|line| match line.trim_start().strip_prefix('#') {
            Some(rest) if rest.starts_with(['\t', 'l', 'o', 'c']) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(folder.0.join("vpnd"), all_on).unwrap();
    let loaded = load(&folder.0);
    let texts: Vec<String> = loaded.problems.iter().map(|p| p.option.clone()).collect();
    assert_eq!(texts, ["private_key", "public_key"], "{:?}", loaded.problems);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn load_never_panics(
        vpnd in proptest::collection::vec(any::<u8>(), 0..200),
        network in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let folder = Folder::new("bytes");
        fs::write(folder.0.join("vpnd"), vpnd).unwrap();
        fs::write(folder.0.join("network"), network).unwrap();
        let loaded = load(&folder.0);
        prop_assert!(!loaded.problems.is_empty() || !loaded.settings.lan.devices.is_empty());
    }

    /// Right options with wild values: no panic, no control character in a message, and fail closed.
    #[test]
    fn load_never_panics_on_nearly_right(
        lines in proptest::collection::vec(
            (
                prop_oneof![
                    Just("list lan_device"), Just("list lan_network"), Just("list lan_route"),
                    Just("list allow_wan_private"), Just("list allow_wan_multicast"),
                    Just("list allow_wan_service"), Just("list allow_tunnel_forward"),
                    Just("list resolver"), Just("option mark"), Just("option mark_mask"),
                    Just("config tunnel"), Just("option private_key"), Just("list address"),
                    Just("list dns"), Just("list probe"), Just("option mtu"), Just("config relay"),
                    Just("option endpoint"), Just("option public_key"), Just("option name"),
                    Just("option lockdown"), Just("list api_endpoint"), Just("option country"),
                    Just("config interface"), Just("option device"), Just("option ipaddr"),
                    Just("option proto"), Just("option gateway"), Just("list ports"),
                ],
                prop_oneof![
                    Just("br-lan"), Just("lan"), Just("@lan"), Just("0.0.0.0/0"), Just("::/0"),
                    Just("10.0.0.0/8 via 192.168.1.2"), Just("tcp 22"), Just("udp 0 ::1/129"),
                    Just("tcp 1 192.168.1.5 99999"), Just("0x0"), Just("4294967295"), Just("1"),
                    Just("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), Just("[::1]:1"),
                    Just("192.168.1.1/24"), Just("static"), Just("\u{1b}[2J"), Just("\u{202e}x"),
                    Just("239.0.0.0/8"), Just("a.example:1"), Just("192.0.2.1:51820"), Just("'"),
                    Just(""), Just("fe80::1%eth0"), Just("192.168.1.1/33"), Just("-1"),
                ],
            ),
            0..40,
        ),
        network in any::<bool>(),
    ) {
        let folder = Folder::new("nearly");
        let mut text = String::from("config vpnd 'main'\n");
        for (option, value) in &lines {
            let value = value.replace('\'', "'\\''");
            let _ = match option.starts_with("config") {
                true => writeln!(text, "{option}"),
                false => writeln!(text, " {option} '{value}'"),
            };
        }
        fs::write(folder.0.join("vpnd"), &text).unwrap();
        let network = if network { text.as_str() } else { NETWORK };
        fs::write(folder.0.join("network"), network).unwrap();
        let loaded = load(&folder.0);
        for problem in loaded.problems.iter().chain(&loaded.warnings) {
            let shown = problem.to_string();
            prop_assert!(!shown.contains(char::is_control) && !shown.contains('\u{202e}'), "{}", shown);
            prop_assert!(!shown.contains("AAECAwQFBgcICQ") , "{}", shown);
        }
        if !loaded.problems.is_empty() {
            let lan = loaded.settings.lan.clone();
            prop_assert_eq!(loaded.settings, Settings::fallback(lan));
        }
    }
}
