//! stub
use super::{CliError, Context};
/// Demo.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}
/// Runs.
///
/// # Errors
/// Always.
pub fn run(_args: &Args, _context: &Context) -> Result<(), CliError> {
    Err(CliError::message("not yet"))
}
