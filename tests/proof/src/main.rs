//! Proves the compiled rules against a table of the contract; see docs/proof.md.
mod actual;
mod alter;
mod atoms;
mod contract;
mod dims;
mod expect;
mod explore;
mod lane;
mod mutate;
mod rules;
mod setup;
mod table;
mod words;

use explore::{Leaf, Proof, Stop};

fn main() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let per: usize = std::env::var("PER").ok().and_then(|seed| seed.parse().ok()).unwrap_or(50);
    let mut random = fastrand::Rng::with_seed(seed);
    let choices = setup::pairwise(&mut random);
    println!("{} choices", choices.len());
    let mut total = mutate::Score::default();
    for choice in choices {
        let start = std::time::Instant::now();
        let case = setup::case(choice);
        let policy = vpnd::policy::compose(&case.stance, &case.settings, &case.facts).expect("policy");
        let ruleset = vpnd::firewall::compile(&policy);
        let rules = rules::Rules::new(&ruleset).expect("rules");
        let mut mutants = alter::mutants(&rules.rules);
        let contract = contract::contract(&case);
        let statements = rules.rules.iter().flat_map(|rule| rule.expr.iter());
        let altered = mutants.iter().filter_map(|mutant| match &mutant.change { alter::Change::Replaced(rule) => Some(rule), _ => None });
        let altered = altered.flat_map(|rule| rule.expr.iter());
        let atoms = atoms::atoms(&contract, statements.chain(altered)).expect("atoms");
        let table = expect::Table::new(contract, case.settings.mark, &atoms);
        let proof = Proof { rules: &rules, table: &table, atoms: &atoms };
        let lanes = explore::lanes(&table);
        let mut classes = 0u128;
        let mut bad = 0;
        let mut leaves: Vec<Leaf> = Vec::new();
        let mut index = mutate::Index::new(rules.rules.len());
        for (at, lane) in lanes.iter().enumerate() {
            let all = lane.everything(proof.atoms(lane));
            classes += all.classes();
            let mut check = random.fork();
            let mut wrong = None;
            let found = proof.explore(lane, all, &mut random, &mut |leaf, actual| {
                index.add(leaves.len() as u32, &actual.steps);
                leaves.push(Leaf { lane: at as u32, cover: *leaf });
                if let Err(stop) = proof.check(lane, leaf, actual, &mut check) { wrong = Some(stop); }
            });
            if let Some(Stop::Broken(text)) = wrong { println!("BROKEN {text}"); bad += 1; }
            match found {
                Ok(None) => {}
                Ok(Some(difference)) => {
                    bad += 1;
                    if bad <= 3 {
                        println!("{}", words::difference(&difference, &rules));
                    }
                }
                Err(Stop::Broken(text)) => { println!("BROKEN {text}"); bad += 1; }
                Err(Stop::Unknown(unknown)) => println!("{unknown}"),
            }
        }
        println!("{choice}: {} rules, {} visited, {classes} classes, {bad} bad, {:?}", rules.rules.len(), leaves.len(), start.elapsed());
        let all = mutants.len();
        random.shuffle(&mut mutants);
        mutants.truncate(per);
        match mutate::try_out(&proof, &lanes, &leaves, &index, &mutants, &mut random) {
            Ok(score) => { println!("   {} of {all} mutants: {} killed, {} impossible, {} survive, {:?}", mutants.len(), score.killed, score.impossible, score.survived(), start.elapsed()); total.add(score); }
            Err(stop) => println!("{stop:?}"),
        }
    }
    for ((place, what), (times, boxes)) in &total.survivors {
        println!("SURVIVOR {place} | {what} | {times} {boxes}");
    }
    println!("{} killed {} survived", total.killed, total.survived());
}
