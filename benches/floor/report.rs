//! The figures of all rounds, and the table of them.

use super::systems::System;
use super::work::{FILES, Work};
use std::collections::HashMap;
use std::time::Duration;

/// What one system took for one kind of work.
#[derive(Debug, Default)]
struct Figures {
    /// The middle of each round's times for one operation, in microseconds.
    rounds: Vec<f64>,
    requests: u64,
}

/// The figures so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    all: HashMap<(Work, System), Figures>,
}

impl Report {
    /// Adds a round: the times of its operations, and how many requests they took together.
    pub(crate) fn add(
        &mut self,
        work: Work,
        system: System,
        mut times: Vec<Duration>,
        requests: u64,
    ) {
        times.sort();
        let middle = times.get(times.len() / 2).map_or(f64::NAN, |t| t.as_secs_f64() * 1e6);
        let figures = self.all.entry((work, system)).or_default();
        figures.rounds.push(middle);
        figures.requests += requests;
    }

    /// Prints a line for each kind of work.
    pub(crate) fn print(&self) {
        println!(
            "{:<40} {:>13} {:>40} {:>10}",
            "", "requests", "µs: least and middle of the rounds", "ours/floor"
        );
        println!(
            "{:<40} {:>6} {:>6} {:>13} {:>13} {:>13} {:>9}",
            "operation", "floor", "ours", "native", "floor", "ours", "in pairs"
        );
        for work in Work::ALL {
            let [native, floor, ours] = System::ALL.map(|s| self.all.get(&(*work, s)));
            let (Some(native), Some(floor), Some(ours)) = (native, floor, ours) else { continue };
            let pairs = ours.rounds.iter().zip(&floor.rounds).map(|(o, f)| o / f);
            println!(
                "{:<40} {:>6.2} {:>6.2} {:>13} {:>13} {:>13} {:>9.2}",
                work.name(),
                floor.requests_each(),
                ours.requests_each(),
                native.least_and_middle(),
                floor.least_and_middle(),
                ours.least_and_middle(),
                middle(pairs.collect())
            );
        }
    }
}

impl Figures {
    fn requests_each(&self) -> f64 {
        self.requests as f64 / (self.rounds.len() * FILES) as f64
    }

    fn least_and_middle(&self) -> String {
        let least = self.rounds.iter().copied().fold(f64::NAN, f64::min);
        format!("{least:.1} {:>6.1}", middle(self.rounds.clone()))
    }
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
