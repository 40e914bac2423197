//! Our UCI reader against the real libuci: same files accepted, same tree.

#![allow(clippy::panic)] // a helper of tests, outside of test functions

use std::fs;
use std::path::Path;

use uci_oracle::{Agreement, Context, Folder, Values, compare, libuci, ours};
use vpnd::config::import;

#[track_caller]
fn agree(folder: &Folder, data: &[u8], what: &str) -> bool {
    match compare(folder, data, ours(data)) {
        Agreement::Accepted => true,
        Agreement::Refused | Agreement::Exempt => false,
        Agreement::Differs(how) => panic!("{what}: {how}"),
    }
}

/// Every file of the corpus; the suffix `.refused.uci` says what both must say.
#[test]
fn corpus() {
    let folder = Folder::new().unwrap();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let (mut accepted, mut refused) = (0, 0);
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let data = fs::read(&path).unwrap();
        let ok = agree(&folder, &data, &name);
        assert_eq!(ok, !name.ends_with(".refused.uci"), "{name}");
        if ok {
            accepted += 1
        } else {
            refused += 1
        }
        // The same with a router's other habits: carriage returns, no last line break.
        let crlf = String::from_utf8_lossy(&data).replace('\n', "\r\n");
        agree(&folder, crlf.as_bytes(), &format!("{name} with CRLF"));
        agree(&folder, data.trim_ascii_end(), &format!("{name} without its last line break"));
        // And cut off at every byte, as a full flash would leave it.
        for length in 0..data.len().min(600) {
            agree(&folder, &data[..length], &format!("{name} cut at {length}"));
        }
    }
    assert!(accepted >= 10 && refused >= 10, "{accepted} accepted, {refused} refused");
}

/// xorshift64*: no dependency, the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap_or(0) % bound
    }
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A file that is mostly right: few names, so that they repeat.
fn generate(random: &mut Random) -> Vec<u8> {
    const SPACE: &[&str] = &[" ", "\t", "  ", " \t ", "\r", "\u{b}", " \\\n", "\\\n "];
    const NAME: &[&str] = &[
        "a",
        "b",
        "c",
        "'d'",
        "\"e\"",
        "long_name_of_an_option_that_fills_the_buffer",
        "f'g'",
        "''",
        "h-i",
        "cfg01b5e7",
        "cfg02b5e8",
        "j\\\nk",
    ];
    const VALUE: &[&str] = &[
        "x",
        "'x y'",
        "\"x y\"",
        "'it'\\''s'",
        "\"q\\\"q\"",
        "'two\nlines'",
        "'#no comment'",
        "x#comment",
        "x;y",
        "'x';",
        "x ;",
        "\\#",
        "\\;",
        "\\'",
        "'a'\"b\"c",
        "''",
        "\"\"",
        "",
        "\\",
        "'\\'",
        "\"a\\\nb\"",
        "\"a\\\r\nb\"",
        "'\u{fc}'",
        "\u{fc}",
        "'open",
        "\"open",
        "'a\r\nb'",
        "x y",
        "0123456789012345678901234567890123456789",
        "\\ x",
        "x\\ y",
        "'$(x)`'",
    ];
    const END: &[&str] =
        &["\n", "\n", "\n", "\n", "\r\n", " # comment\n", ";", " ; ", ";\n", "\n\n", " \n", ""];
    let mut text = String::new();
    for _ in 0..random.below(14) {
        if random.below(6) == 0 {
            text.push_str(random.pick(&["# comment\n", "\n", "  \t\n", "\r\n", "#\\\n", "\u{c}"]));
        }
        text.push_str(random.pick(&["", "", "\t", "  ", "\r"]));
        let word = match (text.contains('c'), random.below(24)) {
            (_, 0) => random.pick(&["p", "package", "conf", "options", "Config", "li", "'config'"]),
            (false, _) | (_, 1..=6) => random.pick(&["config", "config", "c"]),
            (_, 7..=14) => random.pick(&["option", "option", "o"]),
            _ => random.pick(&["list", "list", "l"]),
        };
        text.push_str(word);
        // Mostly well-formed, or the first mistake would hide all that follows.
        let wild = random.below(5) == 0;
        let space = if wild { SPACE } else { &SPACE[..4] };
        text.push_str(random.pick(space));
        text.push_str(random.pick(if wild { NAME } else { &NAME[..6] }));
        if !word.starts_with('p') && random.below(8) != 0 {
            text.push_str(random.pick(space));
            let config = word.starts_with('c');
            text.push_str(match (config, wild) {
                (true, false) => random.pick(&NAME[..6]),
                (true, true) => random.pick(NAME),
                (false, false) => random.pick(&VALUE[..8]),
                (false, true) => random.pick(VALUE),
            });
        }
        text.push_str(random.pick(if wild { END } else { &END[..5] }));
    }
    text.into_bytes()
}

fn mangle(random: &mut Random, data: &mut Vec<u8>) {
    const BYTES: &[u8] = b"'\"\\;# \t\n\r\x0b\x0c-_=abcolp\x01\x7f\x80\xff\x00";
    for _ in 0..=random.below(3) {
        let at = random.below(data.len() + 1);
        let byte = BYTES[random.below(BYTES.len())];
        match random.below(4) {
            0 => data.insert(at, byte),
            1 if at < data.len() => data[at] = byte,
            2 if at < data.len() => {
                data.remove(at);
            }
            _ => data.truncate(at),
        }
    }
}

#[test]
fn random_files() {
    let number = |name: &str, otherwise| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let seed: u64 = number("UCI_ORACLE_SEED", 20_261_121);
    let rounds: u64 = number("UCI_ORACLE_ROUNDS", 20000);
    let folder = Folder::new().unwrap();
    let mut random = Random(seed | 1);
    let (mut accepted, mut filled) = (0_u64, 0_u64);
    for round in 0..rounds {
        let mut data = generate(&mut random);
        if round % 2 == 1 {
            mangle(&mut random, &mut data);
        }
        if agree(&folder, &data, &format!("seed {seed} round {round}")) {
            accepted += 1;
            filled += u64::from(data.len() > 60);
        }
    }
    // A generator that makes only broken or only empty files would prove nothing.
    assert!(accepted * 5 > rounds && accepted * 10 < rounds * 9, "{accepted} of {rounds}");
    assert!(filled * 20 > rounds, "{filled} of {rounds} accepted with content");
}

const HOSTILE: &[&[u8]] = &[
    b"plain",
    b"it's",
    b"''",
    b"'",
    b"a 'quoted' word",
    b"two\nlines",
    b"\nleading",
    b"trailing\n",
    b"\r\n",
    b" ",
    b"\t",
    b"#",
    b"a # b",
    b";",
    b"a;b",
    b"\\",
    b"\\\\",
    b"a\\",
    b"\\'",
    b"\\\n",
    b"\"",
    b"\"a\"",
    b"$(reboot)",
    b"`reboot`",
    b"\x01\x02\x1b[31m",
    b"\xff\xfe",
    b"\xc3\xbc",
    b"option x 'y'\n\nconfig relay 'evil'",
    b"'\nconfig relay 'evil'\n",
    b"x\x7fy",
    b"=",
    b"-",
];

/// What libuci writes itself, with hostile values, is read back the same by both.
#[test]
fn what_libuci_writes() {
    let folder = Folder::new().unwrap();
    for by_path in [true, false] {
        for value in HOSTILE {
            // Files under the configuration folder are committed through a file of changes, whose
            // reader refuses control characters (uci_validate_text); others directly.
            let control = value.iter().any(|b| *b < 32 && !b"\t\n\r".contains(b));
            if !by_path && control {
                continue;
            }
            fs::write(folder.file("written"), b"config relay 'r'\n\toption keep 'k'\n").unwrap();
            let mut context = Context::new(&folder);
            let path = folder.file("written");
            let name = if by_path { path.to_str().unwrap() } else { "written" };
            let mut loaded = context.load(name).unwrap();
            loaded.set("r", "text", value).unwrap();
            loaded.add_list("r", "items", value).unwrap();
            loaded.add_list("r", "items", b"second").unwrap();
            loaded.commit().unwrap();
            let data = fs::read(folder.file("written")).unwrap();
            assert!(agree(&folder, &data, "written by libuci"));
            let tree = ours(&data).unwrap();
            assert_eq!(tree.0.len(), 1, "{:?}", String::from_utf8_lossy(&data));
            assert_eq!(
                tree.0[0].options,
                [
                    ("keep".to_owned(), Values::Text(b"k".to_vec())),
                    ("text".to_owned(), Values::Text(value.to_vec())),
                    ("items".to_owned(), Values::List(vec![value.to_vec(), b"second".to_vec()])),
                ]
            );
        }
    }
}

/// What `import` writes into each file of the corpus reads back the same, and the real libuci sees
/// every section that was there before.
#[test]
fn what_import_writes() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let conf = format!(
        "[Interface]\nPrivateKey = {key}\nAddress = 10.64.0.2/32, fc00::2/128\nDNS = 10.64.0.1\n\
         [Peer] # se-got-001\nPublicKey = {key}\nEndpoint = 198.51.100.1:51820\n\
         AllowedIPs = 0.0.0.0/0, ::/0\n[Peer]\nPublicKey = {key}\nEndpoint = [2001:db8::1]:443\n"
    );
    let imported = import::parse("se got's \u{fc}.conf", conf.as_bytes()).unwrap();
    let folder = Folder::new().unwrap();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut written = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let data = fs::read(&path).unwrap();
        for data in [data.as_slice(), data.trim_ascii_end()] {
            let Ok(new) = import::write(&imported, data) else {
                // A last `;` is right only without a line break after it: nothing can follow.
                let refused = ours(data).is_err() || data.ends_with(b";");
                assert!(refused, "{name} could have been written into");
                continue;
            };
            // libuci's own weakness with a section opened three times is not import's.
            if libuci(&folder, data).is_err() {
                continue;
            }
            assert!(agree(&folder, &new.text, &name), "{name}");
            let kept = |tree: uci_oracle::Tree| -> Vec<_> {
                let sections = tree.0.into_iter();
                sections
                    .filter(|s| !matches!(s.kind.as_str(), "tunnel" | "relay" | "vpnd"))
                    .map(|s| (s.kind, (!s.anonymous).then_some(s.name), s.options))
                    .collect()
            };
            let after = libuci(&folder, &new.text).unwrap();
            assert_eq!(after.0.iter().filter(|s| s.kind == "tunnel").count(), 1);
            assert!(after.0.iter().filter(|s| s.kind == "relay").count() >= 2);
            assert_eq!(kept(after), kept(libuci(&folder, data).unwrap()), "{name}");
            written += 1;
        }
    }
    assert!(written >= 20, "only {written}");
}
