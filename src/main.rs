//! The `stratafs` command.

fn main() -> std::process::ExitCode {
    stratafs::cli::run(std::env::args_os().collect())
}

/// All that anything here wants of libm, which is indicatif's guess of the time that is left: with it
/// in the program, no mount waits for the 900 KB of that library to come from disk.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the name is that of libm, and so is what it does")]
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}
