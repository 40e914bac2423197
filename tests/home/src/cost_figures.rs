//! Ratios of paired measurements and how sure they are.

/// Rounds of one measurement for each column; the columns of a round belong together.
pub struct Pairs {
    columns: Vec<Vec<f64>>,
}

/// Draws of the bootstrap.
const DRAWS: usize = 4000;

impl Pairs {
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns: vec![Vec::new(); columns] }
    }

    pub fn add(&mut self, round: &[f64]) {
        for (column, value) in self.columns.iter_mut().zip(round) {
            column.push(*value);
        }
    }

    fn column(&self, at: usize) -> &[f64] {
        self.columns.get(at).map_or(&[], Vec::as_slice)
    }

    /// How much of the throughput of `base` remains in `other`, when `less` is taken off both
    /// times (None: nothing), with the bounds that hold in 95 of 100.
    #[must_use]
    pub fn ratio(&self, base: usize, other: usize, less: Option<usize>) -> (f64, f64, f64) {
        let own = |column: usize, round: usize| {
            let off = less.map_or(0.0, |less| self.column(less)[round]);
            self.column(column)[round] - off
        };
        let logs: Vec<f64> =
            (0..self.column(base).len()).map(|round| (own(base, round) / own(other, round)).ln()).collect();
        let (low, high) = bounds(&logs);
        (median(&logs).exp(), low.exp(), high.exp())
    }

    #[must_use]
    pub fn median(&self, column: usize) -> f64 {
        median(self.column(column))
    }
}

#[must_use]
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The percentile bootstrap of the median (Efron), 2.5 % to 97.5 %; always with the same draws.
fn bounds(values: &[f64]) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut medians: Vec<f64> = (0..DRAWS)
        .map(|_| median(&values.iter().map(|_| values[random.usize(..values.len())]).collect::<Vec<_>>()))
        .collect();
    medians.sort_by(f64::total_cmp);
    (medians[DRAWS / 40], medians[DRAWS - 1 - DRAWS / 40])
}

/// Column 0 is the cost of sending alone, column 1 what the others are measured by.
pub fn print_table(pairs: &Pairs, names: &[&str]) {
    println!("{:38}ns a packet  {:<24}the router's part alone (95 %)", "", "throughput (95 %)");
    for (at, name) in names.iter().enumerate() {
        let took = pairs.median(at);
        let shown = |(ratio, low, high): (f64, f64, f64)| format!("{ratio:.3} ({low:.3}-{high:.3})");
        let (all, own) = match at {
            0 => Default::default(),
            1 => ("1".to_owned(), "1".to_owned()),
            _ => (shown(pairs.ratio(1, at, None)), shown(pairs.ratio(1, at, Some(0)))),
        };
        println!("{}", format!("{name:<38}{took:>11.0}  {all:<24}{own}").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_found_again_within_its_bounds() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut pairs = Pairs::new(3);
        for _ in 0..40 {
            // A slow round slows all its columns.
            let load = 1.0 + random.f64();
            let noise = |random: &mut fastrand::Rng| 1.0 + random.f64() / 50.0;
            let base = 1000.0 * load * noise(&mut random);
            pairs.add(&[200.0 * load, base, 1250.0 * load * noise(&mut random)]);
        }
        let (ratio, low, high) = pairs.ratio(1, 2, None);
        assert!(
            (0.78..0.82).contains(&ratio) && low < 0.8 && 0.8 < high && high - low < 0.02,
            "{ratio} {low} {high}"
        );
        let (ratio, low, high) = pairs.ratio(1, 2, Some(0));
        assert!(low < 800.0 / 1050.0 && 800.0 / 1050.0 < high, "{ratio} {low} {high}");
    }
}
