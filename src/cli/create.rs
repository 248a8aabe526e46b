//! `stratafs create`.

use super::{CliError, Context};

/// Make a container of an image: a writable layer upon its layers.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The image
    image: String,
    /// A name for the container
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Runs the command; prints the container's id.
///
/// # Errors
/// What failed, with what may help.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    Err(CliError::message(format!("create {} {:?} {:?}", args.image, args.name, context.root)))
}
