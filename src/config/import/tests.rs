use proptest::prelude::*;

use super::{PeerEndpoint, WriteError, parse, write};
use crate::config::uci;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn conf(rest: &str) -> String {
    format!("[Interface]\nPrivateKey = {KEY}\nAddress = 10.64.0.2/32\n{rest}")
}

fn peer(rest: &str) -> String {
    format!("[Peer]\nPublicKey = {KEY}\n{rest}")
}

fn problems(file: &str, data: &[u8]) -> Vec<String> {
    parse(file, data).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn reads_what_providers_hand_out() {
    let text = format!(
        "\u{feff}[interface]\r\n# Device: Happy Fish\r\nprivatekey={KEY}\r\n\
         Address = 10.64.0.2/32, fc00:bbbb:bbbb:bb01::2/128\r\nADDRESS = 10.64.0.3\r\n\
         DNS = 10.64.0.1, vpn.example\r\nMTU = 1380\r\nPostUp = rm -rf /\r\nTable = off\r\n\r\n\
         [PEER] # se-got-wg-001\r\nPublicKey = {KEY}\r\nPresharedKey = {KEY}\r\n\
         AllowedIPs = 0.0.0.0/0,::0/0\r\nEndpoint = [2001:db8::1]:51820\r\n\
         PersistentKeepalive = 25\r\n\r\n[Peer]\r\n# SE#12\r\nPublicKey = {KEY}\r\n\
         Endpoint = Relay.Example:443\r\n"
    );
    let imported = parse("my file.conf", text.as_bytes()).unwrap();
    let shown = |items: &[ipnet::IpNet]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&imported.addresses), ["10.64.0.2/32", "fc00:bbbb:bbbb:bb01::2/128", "10.64.0.3/32"]);
    assert_eq!(imported.dns, ["10.64.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(imported.mtu, Some(1380));
    let names: Vec<_> = imported.peers.iter().map(|peer| peer.name.to_string()).collect();
    assert_eq!(names, ["se-got-wg-001", "SE-12"]);
    assert_eq!(shown(&imported.peers[0].allowed_ips), ["0.0.0.0/0", "::/0"]);
    assert!(imported.peers[0].preshared_key.is_some());
    assert_eq!(
        imported.peers[1].endpoint,
        PeerEndpoint::Name { host: "Relay.Example".to_owned(), port: 443 }
    );
    let warnings: Vec<_> = imported.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "my file.conf: [Interface]: DNS 'vpn.example': is a search domain; not taken over",
            "my file.conf: [Interface]: PostUp: is not taken over: no command of an imported file \
             is run",
            "my file.conf: [Interface]: Table 'off': is not taken over: vpnd decides that itself",
            "my file.conf: [Peer]: PersistentKeepalive '25': is not taken over: vpnd decides that \
             itself",
        ]
    );
}

#[test]
fn says_all_that_is_wrong_and_shows_no_key() {
    let text = format!(
        "Address = 1.2.3.4\n[Interface]\nPrivateKey = {}\nAddress = 10.0.0.300\nMTU = 20\n\
         {KEY}\n[Peer]\nPublicKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\
         Endpoint = 127.0.0.1:0\nEndpoint = 127.0.0.1:1\nAllowedIPs = all\n[Peer]\n",
        &KEY[..40]
    );
    let found = problems("a.conf", text.as_bytes());
    assert_eq!(
        found,
        [
            "a.conf: line 1: Address: stands before [Interface]",
            "a.conf: [Interface]: PrivateKey '(hidden)': is no WireGuard key; 32 bytes in base64 \
             (44 characters, the last is =) are needed",
            "a.conf: [Interface]: Address '10.0.0.300': is no address like 192.0.2.1/24 or \
             2001:db8::1/64",
            "a.conf: [Interface]: MTU '20': is no MTU; 576 to 65535 bytes, or nothing to take it \
             from the path",
            "a.conf: [Interface]: has a line that is no Key = value",
            "a.conf: [Peer]: PublicKey '(hidden)': is all zero; that is no key",
            "a.conf: [Peer]: Endpoint '127.0.0.1:0': has no port in 1 to 65535 at '0'",
            "a.conf: [Peer]: Endpoint: is there twice; one is needed",
            "a.conf: [Peer]: Endpoint '127.0.0.1:1': is loopback; a relay on the internet is needed",
            "a.conf: [Peer]: AllowedIPs 'all': is no address like 192.0.2.1/24 or 2001:db8::1/64",
            "a.conf: [Peer]: PublicKey: is missing; a WireGuard key (32 bytes in base64) is needed",
            "a.conf: [Peer]: Endpoint: is missing; ADDRESS:PORT or NAME:PORT is needed",
        ]
    );
    assert!(!found.concat().contains(&KEY[..12]));
    assert_eq!(problems("b.conf", b""), ["b.conf: [Interface]: is missing", "b.conf: [Peer]: is missing"]);
}

/// What is taken over here must not be refused by the loader afterwards.
#[test]
fn refuses_what_the_configuration_would_not_take() {
    for (address, mtu, message) in [
        (
            "0.0.0.0/0",
            1420,
            "Address '0.0.0.0/0': is the unspecified address; the tunnel's own address is needed",
        ),
        (
            "10.0.0.1/0",
            1420,
            "Address '10.0.0.1/0': covers the whole internet; a host's /32 or /128 is usual",
        ),
        ("127.0.0.1", 1420, "Address '127.0.0.1': is loopback; the tunnel's own address is needed"),
        ("fd00::1", 1279, "MTU '1279': is no MTU; 1280 to 65535 bytes, or nothing to take it from the path"),
    ] {
        let text = format!(
            "[Interface]\nPrivateKey = {KEY}\nMTU = {mtu}\nAddress = {address}\n{}",
            peer("Endpoint = 192.0.2.1:2\n")
        );
        assert_eq!(problems("a.conf", text.as_bytes()), [format!("a.conf: [Interface]: {message}")]);
    }
}

#[test]
fn names_relays_from_the_file_when_no_comment_does() {
    let name = |file: &str, middle: &str| {
        let text = conf(&format!("{middle}{}", peer("Endpoint = 192.0.2.1:1\n")));
        parse(file, text.as_bytes()).unwrap().peers[0].name.to_string()
    };
    assert_eq!(name("/root/Wien (Österreich) 1.CONF", ""), "Wien-sterreich-1");
    assert_eq!(name("../../.conf", ""), "relay");
    assert_eq!(name("a.conf", "# two words\n"), "a");
    assert_eq!(name("a.conf", "# one\n"), "one");
    assert_eq!(name("a.conf", "# one\n\n"), "a");
    assert_eq!(name("a.conf", "# Name = b/../c\n"), "b-..-c");
    assert!(name(&"x".repeat(300), "").len() <= 63);
}

fn with_endpoint(file: &str, endpoint: &str) -> super::Imported {
    let text = conf(&peer(&format!("AllowedIPs = 0.0.0.0/0\nEndpoint = {endpoint}\n")));
    parse(file, text.as_bytes()).unwrap()
}

#[test]
fn writes_into_an_empty_file() {
    let written = write(&with_endpoint("se-1.conf", "192.0.2.1:51820"), b"").unwrap();
    assert_eq!(
        String::from_utf8(written.text).unwrap(),
        format!(
            "config vpnd 'main'\n\toption enabled '0'\n\nconfig tunnel\n\toption private_key \
             '{KEY}'\n\tlist address '10.64.0.2/32'\n\nconfig relay 'se_1'\n\toption name \
             'se-1'\n\toption endpoint '192.0.2.1:51820'\n\toption public_key '{KEY}'\n\tlist \
             allowed_ip '0.0.0.0/0'\n"
        )
    );
}

#[test]
fn replaces_only_its_own_and_keeps_comments() {
    let before = "# mine\nconfig vpnd 'main'\n\toption enabled '1' # on\n\n# the tunnel\n\
                  config tunnel 'old'\n\t# its key\n\toption private_key 'x'\n\toption mtu 1400\n\
                  \nconfig relay 'a'\n\toption endpoint '192.0.2.9:1'\n\toption city 'it'\\''s\nhere'\n\
                  # tail\nconfig relay 'b'\n\toption endpoint '192.0.2.8:1'";
    let written = write(&with_endpoint("a.conf", "192.0.2.1:2"), before.as_bytes()).unwrap();
    assert_eq!(
        String::from_utf8(written.text).unwrap(),
        format!(
            "# mine\nconfig vpnd 'main'\n\toption enabled '1' # on\n\n# the tunnel\n\
             config tunnel\n\toption private_key '{KEY}'\n\tlist address '10.64.0.2/32'\n\t# its \
             key\n\nconfig relay 'a'\n\toption endpoint '192.0.2.1:2'\n\toption public_key \
             '{KEY}'\n\tlist allowed_ip '0.0.0.0/0'\n\toption city 'it'\\''s\nhere'\n# tail\n\
             config relay 'b'\n\toption endpoint '192.0.2.8:1'"
        )
    );
    assert_eq!(
        written.warnings,
        ["the tunnel's key is another one now; these relays were there before and may not know \
          it: b"]
    );
}

#[test]
fn importing_twice_changes_nothing_more() {
    let imported = with_endpoint("de-fra-001.conf", "[2001:db8::5]:51820");
    let once = write(&imported, b"# c\nconfig vpnd 'main'\n").unwrap().text;
    assert_eq!(write(&imported, &once).unwrap().text, once);
}

#[test]
fn refuses_what_it_cannot_write_safely() {
    let named = with_endpoint("a.conf", "relay.example:1");
    assert_eq!(write(&named, b""), Err(WriteError::Unresolved("a".to_owned())));
    let imported = with_endpoint("a.conf", "192.0.2.1:2");
    assert!(write(&imported, b"config 'open\n").is_err());
    let mixed = b"config tunnel 't';config other 'o';option x 'y'\n";
    assert_eq!(
        write(&imported, mixed).unwrap_err().to_string(),
        "line 1 holds commands of several sections; put each on a line of its own first"
    );
}

#[test]
fn leaves_taken_section_names_alone() {
    let before = b"config other 'a'\nconfig vpnd 'main'\n";
    let text = write(&with_endpoint("a.conf", "192.0.2.1:2"), before).unwrap().text;
    let tree = uci::parse(&text).unwrap();
    let relay = tree.sections.iter().find(|section| section.kind == "relay").unwrap();
    assert_eq!(relay.name, "a_2");
    assert!(relay.get("name").is_some());
}

proptest! {
    #[test]
    fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..300), file in ".*") {
        let _ = parse(&file, &data);
    }

    #[test]
    fn never_panics_on_nearly_conf(
        words in proptest::collection::vec(
            prop_oneof![
                Just("[Interface]"), Just("[Peer]"), Just("["), Just("]"), Just("\n"), Just("="),
                Just("PrivateKey"), Just("PublicKey"), Just("Address"), Just("Endpoint"),
                Just("AllowedIPs"), Just("DNS"), Just("#"), Just(","), Just(KEY), Just(" "),
                Just("192.0.2.1"), Just(":"), Just("2001:db8::1"), Just("/32"), Just("\u{fc}"),
            ],
            0..60,
        ),
        existing in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Ok(imported) = parse("x.conf", words.concat().as_bytes()) {
            let _ = write(&imported, &existing);
        }
    }

    /// Whatever stands in the file and can be read stays there.
    #[test]
    fn keeps_what_is_not_its_own(
        words in proptest::collection::vec(
            prop_oneof![
                Just("config a 'b'\n"), Just("config tunnel\n"), Just("config relay 'x'\n"),
                Just("config relay\n"), Just("\toption c 'd'\n"), Just("\tlist e 'f\ng'\n"),
                Just("# comment\n"), Just("\n"), Just("\toption name 'x'\n"), Just("; "),
                Just("config 'tunnel';"), Just("option h 'i';"), Just("\\\n"), Just("config vpnd 'main'\n"),
            ],
            0..14,
        ),
    ) {
        let text = words.concat();
        let imported = with_endpoint("x.conf", "192.0.2.1:2");
        if let Ok(written) = write(&imported, text.as_bytes()) {
            let shape = |data: &[u8]| -> Vec<_> {
                uci::parse(data).unwrap().sections.into_iter()
                    .filter(|s| s.kind == "a")
                    .map(|s| s.options.iter().map(|o| format!("{:?}", o.value)).map(|v|
                        v.split("line").next().unwrap_or("").to_owned()).collect::<Vec<_>>())
                    .collect()
            };
            prop_assert_eq!(shape(text.as_bytes()), shape(&written.text));
        }
    }
}
