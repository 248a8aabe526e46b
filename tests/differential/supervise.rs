//! Starts workers in name spaces of their own, and watches them.

use crate::support::{User, myself, ordinary, skip};
use crate::worker::{BINARY, JOB, PLACE};
use crate::world::Mode;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

pub enum Work {
    /// As many of these as the time allows.
    Seeds(Range<u64>),
    /// All of `cases.rs`.
    Cases,
}

/// What a case may take, on a busy machine with a debug build.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the built-in seeds of one test may take.
const BUDGET: u64 = 12;

#[derive(Default)]
struct Report {
    run: u64,
    steps: u64,
    better: u64,
    parted: u64,
    failures: Vec<String>,
}

/// Where workers work, and what they run.
struct Site {
    dir: tempfile::TempDir,
    user: User,
    mode: Mode,
    worker: PathBuf,
    binary: PathBuf,
}

pub fn supervise(mode: Mode, work: Work) {
    let title = format!("differential test, {}", mode.name());
    let site = match Site::new(mode) {
        Ok(s) => s,
        Err(why) => return skip(&title, &why),
    };
    let chosen = std::env::var("STRATAFS_SEEDS").ok().map(|text| range(&text));
    let jobs: Vec<Job> = match (work, chosen) {
        (Work::Cases, _) => vec![Job { kind: "cases", from: 0, to: u64::MAX, by: 1, seconds: 0 }],
        (Work::Seeds(r), None) => {
            vec![Job { kind: "seeds", from: r.start, to: r.end, by: 1, seconds: BUDGET }]
        }
        (Work::Seeds(_), Some(r)) => {
            let by = workers();
            let job = |i| Job { kind: "seeds", from: r.start + i, to: r.end, by, seconds: 1 << 30 };
            (0..by).map(job).collect()
        }
    };
    let mut all = Report::default();
    std::thread::scope(|s| {
        let threads: Vec<_> = jobs
            .iter()
            .enumerate()
            .map(|(i, job)| {
                let site = &site;
                s.spawn(move || site.work(i, job))
            })
            .collect();
        for t in threads {
            let r = t.join().unwrap();
            all.run += r.run;
            all.steps += r.steps;
            all.better += r.better;
            all.parted += r.parted;
            all.failures.extend(r.failures);
        }
    });
    eprintln!(
        "{title}: {} cases, {} steps, {} times nearer to POSIX than the kernel, {} cases without \
         the referee at their end, {} failed",
        all.run,
        all.steps,
        all.better,
        all.parted,
        all.failures.len()
    );
    assert!(all.failures.is_empty(), "{title}: {} failed", all.failures.len());
}

fn range(text: &str) -> Range<u64> {
    let parsed = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("STRATAFS_SEEDS={text} is not FROM..TO"))
}

fn workers() -> u64 {
    match std::env::var("STRATAFS_WORKERS") {
        Ok(n) => n.parse().unwrap(),
        Err(_) => std::thread::available_parallelism().map_or(1, |n| n.get().min(2) as u64),
    }
}

struct Job {
    kind: &'static str,
    from: u64,
    to: u64,
    by: u64,
    seconds: u64,
}

impl Site {
    fn new(mode: Mode) -> Result<Site, String> {
        let user = if mode.namespace() { ordinary()? } else { myself() };
        if !mode.namespace() && user.uid != 0 {
            return Err("the tests are run by an ordinary user".to_owned());
        }
        let base = std::env::var_os("STRATAFS_DIFFERENTIAL_DIR").unwrap_or("/var/tmp".into());
        let dir = tempfile::Builder::new().prefix("stratafs-diff-").tempdir_in(base).unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
        let mut site = Site { dir, user, mode, worker: PathBuf::new(), binary: PathBuf::new() };
        site.worker = site.reachable(std::env::current_exe().unwrap(), "--list");
        site.binary = site.reachable(env!("CARGO_BIN_EXE_stratafs").into(), "--version");
        let mut said = site.start("probe", 99)?;
        match said.lines.recv_timeout(PATIENCE).as_deref() {
            Ok("@can") => Ok(site),
            Ok(why) => Err(why.trim_start_matches("@cannot ").to_owned()),
            Err(_) => {
                said.end();
                Err(format!("no worker starts: {}", said.errors()))
            }
        }
    }

    /// A program at a place where the user can run it.
    fn reachable(&self, built: PathBuf, probe: &str) -> PathBuf {
        let mut c = Command::new(&built);
        let runs = self.as_user(c.arg(probe)).output().is_ok_and(|o| o.status.success());
        if runs {
            return built;
        }
        let copy = self.dir.path().join(built.file_name().unwrap());
        std::fs::copy(&built, &copy).unwrap();
        copy
    }

    fn as_user<'a>(&self, c: &'a mut Command) -> &'a mut Command {
        if self.user != myself() {
            c.uid(self.user.uid).gid(self.user.gid);
        }
        c
    }

    fn start(&self, job: &str, number: usize) -> Result<Worker, String> {
        let place = self.dir.path().join(format!("{number}"));
        let run = self.dir.path().join(format!("run-{number}"));
        for d in [&place, &run] {
            std::fs::create_dir_all(d).unwrap();
            std::os::unix::fs::chown(d, Some(self.user.uid), Some(self.user.gid)).unwrap();
        }
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o700)).unwrap();
        let job = match job.split_once(' ') {
            Some((kind, rest)) => format!("{kind} {} {rest}", self.mode.name()),
            None => format!("{job} {}", self.mode.name()),
        };
        let errors = self.dir.path().join(format!("errors-{number}"));
        let log = std::fs::File::create(&errors).unwrap();
        let mut c = Command::new("unshare");
        // its processes and mounts end with the first of them
        c.args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        if self.mode.namespace() {
            c.args(["--user", "--map-root-user"]);
        }
        c.arg(&self.worker).args(["--exact", "worker", "--ignored", "--nocapture"]);
        c.args(["--test-threads", "1"]);
        c.env(JOB, job).env(BINARY, &self.binary).env(PLACE, &place);
        c.env("XDG_RUNTIME_DIR", &run).env("LC_ALL", "C").env_remove("RUST_LOG");
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).current_dir("/");
        let mut child = self.as_user(&mut c).spawn().map_err(|e| format!("unshare: {e}"))?;
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            // the harness says things of its own as well, some of them on our first line
            for line in out.lines().map_while(Result::ok) {
                let line = line.find('@').map_or(&line[..], |i| {
                    if line.starts_with("test worker ... @") { &line[i..] } else { &line[..] }
                });
                let noise = line.starts_with("running ") || line.starts_with("test ");
                if !noise && !line.is_empty() && tx.send(line.to_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Worker { child, lines, errors })
    }

    /// Does a job, with a new worker after each one that hangs or dies.
    fn work(&self, number: usize, job: &Job) -> Report {
        let mut report = Report::default();
        let mut from = job.from;
        while from < job.to {
            let text = match job.kind {
                "cases" => format!("cases {from}"),
                _ => format!("seeds {from} {} {} {}", job.to, job.by, job.seconds),
            };
            let mut worker = self.start(&text, number).unwrap();
            match worker.listen(&mut report) {
                None => break,
                Some((seed, how)) => {
                    worker.end();
                    let text = format!("{} {how}\n{}", about(self.mode, seed), worker.errors());
                    eprintln!("{text}");
                    report.failures.push(text);
                    from = seed.map_or(u64::MAX, |s| s + job.by);
                }
            }
        }
        report
    }
}

fn about(mode: Mode, seed: Option<u64>) -> String {
    match seed {
        Some(s) => format!("SEED {s} ({}):", mode.name()),
        None => format!("before any seed ({}):", mode.name()),
    }
}

struct Worker {
    child: Child,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Worker {
    /// Listens to the end. Returns the seed that it hung in or died of.
    fn listen(&mut self, report: &mut Report) -> Option<(Option<u64>, &'static str)> {
        let mut seed = None;
        let mut failure: Option<String> = None;
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(e) => {
                    // what it had found before it hung
                    if let Some(text) = failure.take() {
                        eprintln!("{text}");
                        report.failures.push(text);
                    }
                    let hung = e == std::sync::mpsc::RecvTimeoutError::Timeout;
                    return Some((seed, if hung { "HANGS" } else { "the worker died" }));
                }
            };
            let mut words = line.split(' ');
            let mut number = || words.next().and_then(|w| w.parse::<u64>().ok());
            match line.split(' ').next().unwrap_or("") {
                "@end" => return None,
                "@alive" => {}
                "@start" => {
                    number();
                    seed = number();
                }
                "@ok" => {
                    number();
                    number();
                    report.run += 1;
                    report.steps += number().unwrap_or(0);
                    report.better += number().unwrap_or(0);
                    report.parted += number().unwrap_or(0);
                }
                "@fail" => {
                    report.run += 1;
                    failure = Some(format!("SEED {}", &line[6..]));
                }
                "@failed" => {
                    if let Some(text) = failure.take() {
                        eprintln!("{text}\n");
                        report.failures.push(text);
                    }
                }
                _ => {
                    if let Some(text) = &mut failure {
                        text.push('\n');
                        text.push_str(&line);
                    }
                }
            }
        }
    }

    fn end(&mut self) {
        if let Err(e) = self.child.kill() {
            eprintln!("killing a worker: {e}");
        }
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // unshare takes its child with it, and that one's name space all others
        self.child.kill().and_then(|()| self.child.wait()).map_or_else(drop, drop);
    }
}
