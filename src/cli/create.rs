//! `stratafs create`.

use super::{CliError, Context, output, stack};

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
    let c = stack::create(&context.root, &args.image, args.name.as_deref())?;
    if context.json {
        let image = c.image.map(|i| i.to_string());
        return output::json(&serde_json::json!({ "Id": c.id, "Name": c.name, "Image": image }));
    }
    output::print(&format!("{}\n", c.id))
}
