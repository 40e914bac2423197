//! The bench's one table.

use std::time::Duration;

/// Milliseconds; repetitions of one measurement.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

impl Series {
    pub fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1000.0);
    }

    pub fn count(&mut self, n: usize) {
        self.0.push(n as f64);
    }

    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        if sorted.len() % 2 == 1 { Some(upper) } else { Some((sorted.get(middle - 1)? + upper) / 2.0) }
    }

    #[must_use]
    pub fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    fn range(&self) -> Option<(f64, f64)> {
        let least = self.0.iter().copied().reduce(f64::min)?;
        Some((least, self.0.iter().copied().reduce(f64::max)?))
    }
}

/// Median, least and most.
impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.median(), self.range()) {
            (Some(median), Some((least, most))) => {
                write!(f, "{} ({}-{})", short(median), short(least), short(most))
            }
            _ => f.write_str("-"),
        }
    }
}

/// Three digits or so.
fn short(value: f64) -> String {
    if value >= 100.0 || value == value.trunc() { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Prints one line of the table: at most 100 columns.
pub fn line(what: &str, vpnd: &str, other: &str, ratio: &str, wanted: &str) {
    println!("{}", format!("{what:<37}{vpnd:>17}{other:>18}{ratio:>7}  {wanted}").trim_end());
}

/// How much of the other's the first is.
#[must_use]
pub fn ratio(one: &Series, other: &Series) -> String {
    match (one.median(), other.median()) {
        (Some(one), Some(other)) if other > 0.0 => format!("{:.2}", one / other),
        _ => "-".to_owned(),
    }
}

#[must_use]
pub fn verdict(holds: bool, wanted: &str) -> String {
    format!("{wanted}: {}", if holds { "yes" } else { "NO" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_series() {
        let series = |values: &[f64]| Series(values.to_vec());
        assert_eq!(series(&[3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(series(&[4.0, 1.0, 2.0, 3.0]).median(), Some(2.5));
        assert_eq!(series(&[]).median(), None);
        assert_eq!(series(&[5.0, 1.0, 2.5]).to_string(), "2.5 (1-5)");
        assert_eq!(ratio(&series(&[1.0]), &series(&[4.0])), "0.25");
    }
}
