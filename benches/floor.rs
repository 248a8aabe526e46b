//! How near the mount is to what FUSE allows: each operation as the bare system calls that it takes
//! on the backing file system, through a file system that does these calls and nothing else
//! ([`floor::server`]), and through a mount of plain directories.
//!
//!     cargo bench --bench floor
//!
//! The second figure is the least that a FUSE file system can take on this kernel for the same
//! requests, so what is left between it and ours is all that better code could save. Where only
//! the requests could become fewer, their number per operation says so.
//!
//! The three take turns in directories below `$TMPDIR`, with fresh kernel caches and backing files in
//! the page cache, and all is done anew a few times. `STRATAFS_BENCH_ROUNDS` says how often (9).

#![allow(clippy::print_stdout)]

#[cfg(target_os = "linux")]
mod floor {
    pub(crate) mod backing;
    pub(crate) mod nodes;
    pub(crate) mod report;
    mod requests;
    pub(crate) mod server;
    pub(crate) mod systems;
    pub(crate) mod work;

    pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}
mod support;

#[cfg(target_os = "linux")]
fn main() -> floor::Result<()> {
    use floor::{report::Report, server, systems};

    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, dir, mode] = &args[..]
        && word == server::SERVE
    {
        return server::serve(dir.as_ref(), mode.parse()?);
    }
    if !args.iter().any(|a| a == "--bench") {
        println!("floor: a bench; run it with `cargo bench --bench floor`");
        return Ok(());
    }
    if let Err(e) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        println!("floor: not measured: /dev/fuse: {e}");
        return Ok(());
    }
    // what a round has made is removed after the last one, for it disturbs what comes next
    let tmp = tempfile::tempdir()?;
    let agreed = systems::agreed(&tmp.path().join("agreed"))?;
    println!("a mount of this user: {}", agreed.text);
    let mut report = Report::default();
    for round in 0..support::rounds(9) {
        let within = tmp.path().join(round.to_string());
        systems::measure(&within, &agreed, &mut report)?;
    }
    report.print();
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("floor: measured on Linux only");
}
