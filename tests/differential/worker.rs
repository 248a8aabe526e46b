//! The part that runs in name spaces of its own, and tells its supervisor line by line.

use crate::case::{self, Case};
use crate::layer::{Entry, Kind};
use crate::op::{Op, Step};
use crate::world::{Mode, Mounts};
use crate::{cases, generate, shrink};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a worker is told, in its environment.
pub const JOB: &str = "STRATAFS_DIFFERENTIAL_JOB";
pub const BINARY: &str = "STRATAFS_DIFFERENTIAL_BINARY";
pub const PLACE: &str = "STRATAFS_DIFFERENTIAL_PLACE";

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

pub fn run() {
    let Ok(job) = std::env::var(JOB) else { return };
    let words: Vec<&str> = job.split(' ').collect();
    let mode = Mode::ALL.into_iter().find(|m| m.name() == words[1]).unwrap();
    let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
    let mut mounts = Mounts::new(place, mode, std::env::var_os(BINARY).unwrap().into());
    let number = |i: usize| words[i].parse::<u64>().unwrap();
    match words[0] {
        "probe" => probe(&mounts),
        "cases" => {
            let fits = |c: &Case| match mode {
                // a name space knows no other users to act as
                Mode::Namespace => c.steps.iter().all(|s| s.0 == 0),
                // an empty capability can be read by nobody, and so not be put into an archive
                Mode::Image => {
                    let empty = Some(("security.capability", 9));
                    let sets = |s: &Step| match s.1 {
                        Op::SetXattr { key, value, .. } => Some((key, value)) == empty,
                        _ => false,
                    };
                    !c.layers.iter().flatten().any(|e| e.xattr == empty)
                        && !c.steps.iter().any(sets)
                }
                _ => true,
            };
            for (i, (name, case)) in
                cases::all().into_iter().enumerate().skip(usize::try_from(number(2)).unwrap())
            {
                if fits(&case) {
                    let set = mounts.choose(i as u64);
                    one(i as u64, &format!("{name} {set}"), fitting(case, mode), &mounts);
                }
            }
        }
        _ => {
            let (from, to, by, seconds) = (number(2), number(3), number(4), number(5));
            let until = Instant::now() + Duration::from_secs(seconds);
            for seed in (from..to).step_by(usize::try_from(by).unwrap()) {
                if Instant::now() > until {
                    break;
                }
                let set = mounts.choose(seed);
                one(seed, &set, fitting(generate::case(seed, mode), mode), &mounts);
            }
        }
    }
    tell("@end");
}

/// Without an index the kernel parts hard links when it copies one of them. In an archive of a layer
/// there are no sockets, and names of marks are marks.
fn fitting(mut case: Case, mode: Mode) -> Case {
    if mode == Mode::Image {
        let kept = |e: &Entry| e.kind != Kind::Socket && !e.path.contains(".wh.");
        case.layers.iter_mut().for_each(|l| l.retain(kept));
    }
    if mode == Mode::Redirect {
        let hard = |e: &Entry| matches!(e.kind, Kind::Hard(_));
        case.layers.iter_mut().for_each(|l| l.retain(|e| !hard(e)));
    }
    case
}

/// Whether both can be mounted here.
fn probe(mounts: &Mounts) {
    let empty = Case { layers: vec![Vec::new()], steps: Vec::new() };
    match case::run(&empty, mounts) {
        Ok(_) => tell("@can"),
        Err(why) => tell(&format!("@cannot {}", why.replace('\n', " "))),
    }
}

fn one(number: u64, name: &str, case: Case, mounts: &Mounts) {
    tell(&format!("@start {number} {name}"));
    bury_daemons();
    match case::run(&case, mounts) {
        Ok(c) => tell(&format!("@ok {number} {} {} {}", c.steps, c.better, c.parted)),
        Err(first) => {
            // said at once: shrinking may hang
            tell(&format!("@fail {number} {name}\n{first}"));
            let budget = std::env::var("STRATAFS_SHRINK").ok().and_then(|n| n.parse().ok());
            let small = shrink::shrink(case, budget.unwrap_or(150), |c| {
                tell("@alive");
                case::run(c, mounts).is_err()
            });
            let last = case::run(&small, mounts).err().unwrap_or_else(|| "(not again)".into());
            tell(&format!("as small as it gets:\n{}\n{last}", source(&small)));
            tell("@failed");
        }
    }
}

/// This is the first process of its name space: daemons that ended stay until it asks for them.
fn bury_daemons() {
    use rustix::process::{WaitOptions, wait};
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// A case as Rust.
fn source(case: &Case) -> String {
    let mut out = String::from("Case { layers: vec![\n");
    for layer in &case.layers {
        out += "    vec![\n";
        for entry in layer {
            out += &format!("        {entry:?},\n");
        }
        out += "    ],\n";
    }
    out += "], steps: vec![\n";
    for step in &case.steps {
        out += &format!("    {step:?},\n");
    }
    out + "] }"
}
