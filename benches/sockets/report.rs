//! What was measured, as a table and as JSON lines.

use std::{
    fs::{File, create_dir_all},
    io::Write as _,
    path::Path,
};

use serde_json::json;

use crate::{
    Result,
    measure::{Latency, Measurement},
    scenarios::{Figure, Scenario, Work},
};

/// The longest that a member of a flooded room may wait, as the 99th percentile in microseconds. 100 ms: less than a reader
/// notices.
const LONGEST_IN_A_FLOOD: f64 = 100_000.0;

/// The runs of one scenario.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) scenario: Scenario,
    /// For each run, the measurement of each contender.
    runs: Vec<Vec<Measurement>>,
}

/// The middle of the runs, and how far they lie apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Self { least: *values.first()?, median, most: *values.last()? })
    }
}

impl Runs {
    pub(crate) const fn new(scenario: Scenario) -> Self {
        Self { scenario, runs: Vec::new() }
    }

    pub(crate) fn add(&mut self, run: Vec<Measurement>) {
        self.runs.push(run);
    }

    fn of(&self, contender: usize) -> impl Iterator<Item = &Measurement> + Clone {
        self.runs.iter().filter_map(move |run| run.get(contender))
    }

    /// Fails where the members of a flooded room wait for too long.
    pub(crate) fn check(&self) -> Result<()> {
        for (number, contender) in self.scenario.contenders.iter().enumerate() {
            let Work::FanOut { shape, .. } = contender.work else { continue };
            let waits = self.figure(number).filter(|_| shape.flood > 0).map_or(0.0, |spread| spread.median);
            if waits >= LONGEST_IN_A_FLOOD {
                return Err(
                    format!("{}: a p99 of {waits} µs, and less than 100 ms is asked for", contender.name).into()
                );
            }
        }
        Ok(())
    }

    /// What the scenario is about, for one contender.
    fn figure(&self, contender: usize) -> Option<Spread> {
        Spread::of(self.of(contender).filter_map(|run| run.figure(self.scenario.figure)))
    }

    /// The same as a ratio to the first contender of the same run.
    pub(crate) fn ratio(&self, contender: usize) -> Option<Spread> {
        let figure = self.scenario.figure;
        let pairs = self.of(contender).zip(self.of(0));
        Spread::of(pairs.filter_map(|(own, first)| Some(own.figure(figure)? / first.figure(figure)?)))
    }

    fn median(&self, contender: usize, of: impl Fn(&Measurement) -> Option<f64>) -> String {
        Spread::of(self.of(contender).filter_map(of)).map_or_else(String::new, |spread| number(spread.median))
    }

    fn latency(&self, contender: usize, of: impl Fn(Latency) -> u64) -> String {
        self.median(contender, |run| Some(of(run.latency?) as f64))
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> String {
        let Scenario { name, figure, contenders } = &self.scenario;
        let mut table = format!(
            "\n### {name}\n\n| | {} | ratio (least to most) | deliveries/s | p50 µs | p99 µs | max µs | bytes/delivery | bytes/connection | peak MiB |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            figure.unit()
        );
        for (place, contender) in contenders.iter().enumerate() {
            let ratio = self.ratio(place).map_or_else(String::new, |ratio| {
                format!("**{:.2}** ({:.2} to {:.2})", ratio.median, ratio.least, ratio.most)
            });
            let ratio = if *figure == Figure::Call { String::new() } else { ratio };
            let memory = |run: &Measurement| (*figure != Figure::P99).then(|| run.bytes_per_connection());
            let cells = [
                contender.name.clone(),
                self.figure(place).map_or_else(String::new, |spread| number(spread.median)),
                ratio,
                self.median(place, |run| run.deliveries_per_second),
                self.latency(place, |latency| latency.p50),
                self.latency(place, |latency| latency.p99),
                self.latency(place, |latency| latency.max),
                self.median(place, |run| run.bytes_per_delivery),
                self.median(place, memory),
                self.median(place, |run| Some(run.peak as f64 / f64::from(1 << 20))),
            ];
            table += &format!("| {} |\n", cells.join(" | "));
        }
        table
    }

    /// A row of [`summary`].
    fn row(&self) -> String {
        let Scenario { name, figure, contenders } = &self.scenario;
        let basis = contenders.first().map_or("", |first| &first.name);
        let median = |place| self.figure(place).map_or_else(String::new, |spread| number(spread.median));
        // A ratio of memory to next to none, and of different calls, says nothing.
        let absolute = matches!(figure, Figure::Call | Figure::Memory);
        let held = contenders.iter().enumerate().skip(usize::from(!absolute)).map(|(place, contender)| {
            let ratio = self.ratio(place).filter(|_| !absolute);
            let text = ratio.map_or_else(
                || median(place),
                |ratio| format!("**{:.2}** ({:.2} to {:.2})", ratio.median, ratio.least, ratio.most),
            );
            format!("{} {text}", contender.name)
        });
        let basis = if absolute { String::new() } else { format!("{basis}: {}", median(0)) };
        format!("| {name} | {} | {basis} | {} |\n", figure.unit(), held.collect::<Vec<_>>().join("; "))
    }

    fn json_lines(&self) -> impl Iterator<Item = String> {
        self.runs.iter().enumerate().flat_map(move |(number, run)| {
            self.scenario.contenders.iter().zip(run).map(move |(contender, measurement)| {
                json!({"scenario": self.scenario.name, "contender": contender.name, "run": number, "measured": measurement})
                    .to_string()
            })
        })
    }
}

/// All scenarios in one Markdown table: the ratios to the first contender, and the first contender's own figure.
pub(crate) fn summary(all: &[Runs]) -> String {
    let head =
        "\n### summary\n\n| scenario | what | held against | ratio: median (least to most) |\n|---|---|--:|---|\n";
    all.iter().fold(head.to_owned(), |table, runs| table + &runs.row())
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Writes every run to a file.
pub(crate) fn write_json_lines(path: &Path, all: &[Runs]) -> Result<()> {
    create_dir_all(path.parent().ok_or("no folder")?)?;
    let mut file = File::create(path)?;
    for line in all.iter().flat_map(Runs::json_lines) {
        writeln!(file, "{line}")?;
    }
    Ok(())
}
