//! Tells the linker in which order the parts of the program lie in its file.
//!
//! `link/start.ld` says why. It is for ld.lld, which rustc takes by default on this one platform;
//! whoever chooses another linker gets its order.

use std::env::var;

/// The first minor version of Rust 1 that links with ld.lld there.
const LLD: u32 = 90;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link/start.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let is = |name: &str, value: &str| var(name).is_ok_and(|v| v == value);
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let chosen = var("RUSTC_LINKER").is_ok() || flags.contains("link");
    if is("TARGET", "x86_64-unknown-linux-gnu")
        && is("PROFILE", "release")
        && !chosen
        && rustc_minor().is_some_and(|n| n >= LLD)
        && let Ok(here) = var("CARGO_MANIFEST_DIR")
    {
        // the unwinder: a few pages within the program, else one more file to find, read and map
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
        println!("cargo::rustc-link-arg-bin=stratafs=-Wl,-T,{here}/link/start.ld");
    }
}

/// Returns the second number of the compiler's version.
fn rustc_minor() -> Option<u32> {
    let out = std::process::Command::new(var("RUSTC").ok()?).arg("--version").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    text.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()
}
