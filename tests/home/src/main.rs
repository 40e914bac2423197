//! `home`: the command line of the virtual home.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use home::config::Config;
use home::vpnd::{Rules, Vpnd};
use home::{
    bench, cost, death, demo, differential, layers, mutate, native, reads, scenarios, selftest, suite,
    transitions,
};

const USAGE: &str = "\
home list                         names of all tests
home run [native|guest|router] [--shard I/N] [--seed S] [FILTER]
home mutate                       each contract row's tests are seen to fail without its rules
home config DIR                   write the configuration of the firewall-only tests
home demo                         the narrated tour
home soak [--seed S] COUNT        so many random transitions and faults in sequence
home quiet SECONDS                a daemon with nothing to do: what it writes, how often it wakes up
home bench                        numbers, side by side with wg-quick
home cost                         what the rules cost a forwarded packet
  --vpnd PATH                     the program under test
HOME_PPPOE=1                      with the test that needs PPP in the kernel, pppd and pppoe-server";

struct Args {
    verb: String,
    vpnd: PathBuf,
    shard: (usize, usize),
    seed: u64,
    words: Vec<String>,
}

fn arguments() -> Result<Args> {
    let mut args =
        Args { verb: String::new(), vpnd: PathBuf::from("vpnd"), shard: (1, 1), seed: 1, words: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        let mut value = || given.next().with_context(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--vpnd" => args.vpnd = PathBuf::from(value()?),
            "--seed" => args.seed = value()?.parse().context("--seed")?,
            "--shard" => {
                let text = value()?;
                let (i, n) = text.split_once('/').context("--shard I/N")?;
                args.shard = (i.parse()?, n.parse()?);
                ensure!((1..=args.shard.1).contains(&args.shard.0), "--shard I/N: I is 1 to N, not {text}");
            }
            "--help" | "-h" => bail!("{USAGE}"),
            _ if args.verb.is_empty() => args.verb = word,
            _ => args.words.push(word),
        }
    }
    Ok(args)
}

fn run() -> Result<bool> {
    let mut args = arguments()?;
    // Children run in other folders' namespaces, not in other folders; still, say it whole.
    args.vpnd = std::fs::canonicalize(&args.vpnd).unwrap_or(args.vpnd);
    let config_dir = std::env::temp_dir().join(format!("home-{}", std::process::id()));
    Config::on_paper().write(&config_dir)?;
    let rules: Rc<dyn Rules> = Rc::new(Vpnd { program: args.vpnd.clone(), config_dir: config_dir.clone() });
    let wireguard = home::town::has_wireguard();
    // What a small and slow machine is asked as well: a part of guest.
    let router = args.words.iter().any(|w| w == "router");
    let asked =
        |word: &str| args.words.iter().any(|w| w == word || (word == "guest" && router && w == "router"));
    let mut tests = Vec::new();
    if !asked("guest") {
        tests.extend(selftest::tests());
        tests.extend(reads::tests(Rc::clone(&rules)));
        tests.extend(native::tests(Rc::clone(&rules)));
        tests.extend(layers::tests(&rules));
        tests.extend(cost::tests());
        tests.extend(differential::tests(args.seed));
        tests.extend(transitions::tests(Rc::clone(&rules), args.seed));
        tests.extend(death::tests(args.vpnd.clone(), args.seed));
    }
    if asked("guest") || (!asked("native") && (wireguard || args.verb == "list")) {
        tests.extend(scenarios::tests(args.vpnd.clone(), args.seed));
    }
    // Few kernels have PPP, and where one has, pppd must be there as well.
    let by_ppp = |test: &suite::Test| test.name.contains(scenarios::pppoe::NAME);
    let ppp = std::env::var_os("HOME_PPPOE").is_some();
    if args.verb != "list" && !ppp {
        tests.retain(|test| !by_ppp(test));
    }
    if router {
        tests.retain(|test| by_ppp(test) || scenarios::MAIN.iter().any(|name| test.name.contains(name)));
        let wanted = scenarios::MAIN.len() + usize::from(ppp);
        ensure!(tests.len() == wanted, "tests were renamed: {} of {wanted}", tests.len());
    }
    if args.verb == "run" && asked("guest") && !wireguard {
        bail!("this kernel has no WireGuard: tests/rig/run boots one that has");
    }
    let good = match args.verb.as_str() {
        "list" => {
            tests.iter().for_each(|t| println!("{}", t.name));
            true
        }
        "run" => {
            let words: Vec<&String> =
                args.words.iter().filter(|w| !matches!(w.as_str(), "native" | "guest" | "router")).collect();
            let (i, n) = args.shard;
            let turn = (args.seed % n as u64) as usize;
            let picked = tests
                .into_iter()
                .filter(|t| words.iter().all(|w| t.name.contains(w.as_str())))
                .enumerate()
                // What no other guest can try is in every part.
                .filter(|(at, test)| (at + turn) % n == i - 1 || by_ppp(test))
                .map(|(_, t)| t)
                .collect();
            suite::run(picked)
        }
        "config" => {
            Config::on_paper().write(args.words.first().context("home config DIR")?.as_ref())?;
            true
        }
        "soak" => {
            let count = args.words.first().context("home soak COUNT")?.parse().context("COUNT")?;
            suite::run(vec![scenarios::soak(args.vpnd.clone(), args.seed, count)])
        }
        "quiet" => {
            let seconds = args.words.first().context("home quiet SECONDS")?.parse().context("SECONDS")?;
            suite::run(vec![scenarios::quiet(args.vpnd.clone(), Duration::from_secs(seconds))])
        }
        "demo" => demo::run(&args.vpnd)?,
        "bench" => bench::run(&args.vpnd)?,
        "cost" => cost::run(args.seed)?,
        "mutate" => mutate::run(&*rules, &args.words)?,
        _ => bail!("{USAGE}"),
    };
    let _ = std::fs::remove_dir_all(&config_dir);
    Ok(good)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("home: {error:#}");
            ExitCode::from(2)
        }
    }
}
