//! The `stratafs` command.

fn main() -> std::process::ExitCode {
    stratafs::cli::run(std::env::args_os().collect())
}
