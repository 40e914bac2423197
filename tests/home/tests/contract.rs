//! Every row of docs/contract.md names what holds it, and what it names is there.

use std::path::Path;
use std::rc::Rc;

use home::vpnd::{Rules, Vpnd};
use home::{mutate, scenarios};
use vpnd::policy::Row;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The last column of each row's line, by the row's number.
fn tests_of(text: &str, row: Row) -> Option<&str> {
    let start = format!("| {} ", row.number());
    let line = text.lines().find(|line| line.starts_with(&start))?;
    line.trim_end().trim_end_matches('|').rsplit('|').next().map(str::trim)
}

fn exists(name: &str, names: &[String]) -> bool {
    match name.split_once("::") {
        Some((file, function)) if file.ends_with(".rs") => std::fs::read_to_string(root().join(file))
            .is_ok_and(|text| text.contains(&format!("fn {function}("))),
        _ => names.iter().any(|known| known == name),
    }
}

#[test]
fn every_row_is_held() {
    let text = std::fs::read_to_string(root().join("docs/contract.md")).unwrap();
    let mut names: Vec<String> =
        scenarios::tests("vpnd".into(), 1).into_iter().map(|test| test.name).collect();
    let rules: Rc<dyn Rules> = Rc::new(Vpnd { program: "vpnd".into(), config_dir: "nowhere".into() });
    names.extend(home::layers::tests(&rules).into_iter().map(|test| test.name));
    names.extend(home::native::tests(rules).into_iter().map(|test| test.name));
    let cells = mutate::coverage();
    let mut wrong = Vec::new();
    for row in Row::ALL {
        let Some(tests) = tests_of(&text, *row) else {
            wrong.push(format!("{}: no line", row.number()));
            continue;
        };
        let count = cells.get(row).copied().unwrap_or_default();
        let says = format!("{count} cells");
        if count > 0 && !tests.split("; ").any(|item| item == says) {
            wrong.push(format!("{}: has {says}, the page says: {tests}", row.number()));
        }
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        if count == 0 && named.is_empty() {
            wrong.push(format!("{}: no test holds it", row.number()));
        }
        for name in named.into_iter().filter(|name| !exists(name, &names)) {
            wrong.push(format!("{}: no test is called '{name}'", row.number()));
        }
    }
    assert!(wrong.is_empty(), "docs/contract.md:\n{}", wrong.join("\n"));
}
