//! Tells the linker in which order the parts of the program lie in its file.
//!
//! `src/start.ld` says why. It is for the ld.lld that comes with rustc on this one platform (GNU
//! ld would make one segment of data and code of it); whoever builds for another platform or
//! chooses a linker gets that linker's order.

use std::env::var;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

const PLATFORM: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/start.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let is = |name: &str, value: &str| var(name).is_ok_and(|v| v == value);
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let chosen = var("RUSTC_LINKER").is_ok() || flags.contains("link");
    if is("PROFILE", "release") && is("TARGET", PLATFORM) && is("HOST", PLATFORM) && !chosen {
        if let (Some(lld), Ok(here)) = (lld(), var("CARGO_MANIFEST_DIR")) {
            println!("cargo::rustc-link-arg-bin=stratafs=-B{}", lld.display());
            println!("cargo::rustc-link-arg-bin=stratafs=-fuse-ld=lld");
            println!("cargo::rustc-link-arg-bin=stratafs=-Wl,-T,{here}/src/start.ld");
            // functions that came out alike are there once
            println!("cargo::rustc-link-arg-bin=stratafs=-Wl,--icf=all");
            if knows_short_relocations() {
                println!("cargo::rustc-link-arg-bin=stratafs=-Wl,-z,pack-relative-relocs");
            }
        }
        // the unwinder: a few pages within the program, else one more file to find, read and map
        if said("cc".as_ref(), "-print-file-name=libgcc_eh.a").is_some_and(|p| p.is_absolute()) {
            println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
        }
    }
}

/// Returns the directory of the ld.lld that comes with rustc.
fn lld() -> Option<PathBuf> {
    let root = said(Path::new(&var("RUSTC").ok()?).as_os_str(), "--print=sysroot")?;
    let dir = root.join("lib/rustlib").join(PLATFORM).join("bin/gcc-ld");
    dir.join("ld.lld").exists().then_some(dir)
}

/// Returns whether the C library that is linked takes relocations in a bit each (glibc 2.36), where
/// they are 24 bytes each otherwise.
fn knows_short_relocations() -> bool {
    const NAME: &[u8] = b"GLIBC_ABI_DT_RELR";
    said("cc".as_ref(), "-print-file-name=libc.so.6")
        .and_then(|p| std::fs::read(p).ok())
        .is_some_and(|bytes| bytes.windows(NAME.len()).any(|w| w == NAME))
}

/// Returns the path that a program prints.
fn said(program: &OsStr, argument: &str) -> Option<PathBuf> {
    let out = Command::new(program).arg(argument).output().ok()?;
    Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim()))
}
