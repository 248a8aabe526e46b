//! The three that take turns: the backing file system alone, the least FUSE server, and ours.

use super::Result;
use super::backing::{Backing, Place};
use super::report::Report;
use super::server::SERVE;
use super::work::{FILES, Names, OLD, Work, lower_names};
use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use stratafs::sys::Dir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_stratafs");
/// For how long no request may come before all of an operation's are counted.
const QUIET: Duration = Duration::from_millis(5);
/// How many operations one system does before it is the next one's turn.
const TURN: usize = 20;

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum System {
    Native,
    Floor,
    Ours,
}

impl System {
    pub(crate) const ALL: [System; 3] = [System::Native, System::Floor, System::Ours];
}

/// What a mount of ours has agreed on with the kernel, as far as the least server must do alike.
#[derive(Debug)]
pub(crate) struct Agreed {
    acl: bool,
    /// All of it, for people.
    pub(crate) text: String,
}

/// Mounts once, in a directory that does not exist yet, to learn it.
pub(crate) fn agreed(within: &Path) -> Result<Agreed> {
    let place = Place::new(within);
    lay_out(&place)?;
    let at = mount(&place)?;
    let told = stats(&at);
    unmount(&at)?;
    let told = &told?["agreed"];
    let all = told.as_object().ok_or("nothing agreed on in the statistics")?;
    let text: Vec<String> = all.iter().map(|(what, v)| format!("{what}={v}")).collect();
    Ok(Agreed { acl: told["acl"] == "yes", text: text.join(" ").replace('"', "") })
}

/// A system in its place, ready for work.
enum Running {
    Native(Backing),
    Floor(Dir, Server),
    Ours(Dir, PathBuf),
}

impl Running {
    fn start(system: System, place: &Place, agreed: &Agreed) -> Result<Running> {
        Ok(match system {
            System::Native => Running::Native(Backing::open(place)?),
            System::Floor => {
                let server = Server::start(place, agreed.acl)?;
                Running::Floor(Dir::open(place.mount_point())?, server)
            }
            System::Ours => {
                let at = mount(place)?;
                Running::Ours(Dir::open(&at)?, at)
            }
        })
    }

    fn run(&self, work: Work, name: &Names) -> stratafs::sys::Result<()> {
        match self {
            Running::Native(backing) => work.native(backing, name),
            Running::Floor(dir, _) | Running::Ours(dir, _) => work.mounted(dir.as_fd(), name),
        }
    }

    /// Returns how many requests have come so far, when no more come: a file is released after its
    /// close has returned.
    fn requests(&mut self) -> Result<u64> {
        let mut seen = None;
        loop {
            let now = match self {
                Running::Native(_) => return Ok(0),
                Running::Floor(_, server) => server.requests()?,
                Running::Ours(_, at) => answered(&stats(at)?)?,
            };
            if seen == Some(now) {
                return Ok(now);
            }
            seen = Some(now);
            std::thread::sleep(QUIET);
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Running::Native(_) => Ok(()),
            Running::Floor(dir, server) => {
                drop(dir);
                server.stop()
            }
            Running::Ours(dir, at) => {
                drop(dir);
                unmount(&at)
            }
        }
    }
}

/// Measures all work once, in a directory that does not exist yet. The systems take turns after few
/// operations, so that what else the machine does meets them alike; who begins changes.
pub(crate) fn measure(within: &Path, agreed: &Agreed, report: &mut Report) -> Result<()> {
    let places = System::ALL.map(|s| (s, Place::new(&within.join(format!("{s:?}")))));
    for (_, place) in &places {
        lay_out(place)?;
    }
    // what was made so far is not to be written meanwhile
    Dir::open(within)?.sync_file_system()?;
    let mut running = Vec::new();
    for (system, place) in &places {
        running.push((*system, Running::start(*system, place, agreed)?));
    }
    for work in Work::ALL {
        let mut times = System::ALL.map(|_| Vec::with_capacity(FILES));
        let counts: Result<Vec<u64>> = running.iter_mut().map(|(_, r)| r.requests()).collect();
        for (turn, begin) in (0..FILES).step_by(TURN).enumerate() {
            for i in 0..running.len() {
                let i = (turn + i) % running.len();
                for number in begin..FILES.min(begin + TURN) {
                    let name = Names::of(*work, number);
                    let start = Instant::now();
                    running[i].1.run(*work, &name)?;
                    times[i].push(start.elapsed());
                }
            }
        }
        for (((system, r), before), times) in running.iter_mut().zip(counts?).zip(times) {
            report.add(*work, *system, times, r.requests()? - before);
        }
    }
    for (_, r) in running {
        r.stop()?;
    }
    Ok(())
}

fn lay_out(place: &Place) -> Result<()> {
    for dir in [place.lower(), place.upper(), place.work(), place.mount_point()] {
        std::fs::create_dir_all(dir)?;
    }
    for name in (0..FILES).flat_map(lower_names) {
        std::fs::write(place.lower().join(name), OLD)?;
    }
    Ok(())
}

/// The least server, a process of this program.
struct Server {
    process: Child,
    ask: ChildStdin,
    answers: ChildStdout,
}

impl Server {
    fn start(place: &Place, acl: bool) -> Result<Server> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([OsStr::new(SERVE), place.root().as_os_str(), OsStr::new(&acl.to_string())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = process.stdin.take().ok_or("no way to ask the server")?;
        let mut answers = process.stdout.take().ok_or("the server cannot answer")?;
        // comes when it is mounted
        answers.read_exact(&mut [0])?;
        Ok(Server { process, ask, answers })
    }

    fn requests(&mut self) -> Result<u64> {
        self.ask.write_all(&[1])?;
        let mut count = [0; 8];
        self.answers.read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }

    fn stop(self) -> Result<()> {
        let Server { mut process, ask, .. } = self;
        drop(ask);
        if process.wait()?.success() { Ok(()) } else { Err("the server failed".into()) }
    }
}

/// Mounts a place as the user who runs this does, and returns where.
fn mount(place: &Place) -> Result<PathBuf> {
    let mut options = OsString::from("lowerdir=");
    options.push(place.lower());
    options.push(",upperdir=");
    options.push(place.upper());
    options.push(",workdir=");
    options.push(place.work());
    // what it saves depends on who mounts
    options.push(",passthrough=off");
    let at = place.mount_point();
    stratafs(&[OsStr::new("-o"), &options, at.as_os_str()])?;
    Ok(at)
}

fn unmount(at: &Path) -> Result<()> {
    stratafs(&[OsStr::new("umount"), at.as_os_str()])
}

fn stratafs(args: &[&OsStr]) -> Result<()> {
    // the daemon keeps what it is not told to close: pipes would wait for its end
    let done =
        Command::new(PROGRAM).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if done.success() { Ok(()) } else { Err(format!("stratafs {args:?}: {done}").into()) }
}

fn stats(at: &Path) -> Result<serde_json::Value> {
    let told = Command::new(PROGRAM).args(["--json", "stats"]).arg(at).output()?;
    Ok(serde_json::from_slice(&told.stdout)?)
}

/// Returns how many requests were answered: a forgotten inode is none that anybody waits for.
fn answered(stats: &serde_json::Value) -> Result<u64> {
    let all = stats["requests"].as_object().ok_or("no requests in the statistics")?;
    Ok(all.iter().filter(|(op, _)| *op != "forget").filter_map(|(_, n)| n.as_u64()).sum())
}
