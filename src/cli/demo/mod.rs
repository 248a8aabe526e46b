//! `stratafs demo`: what every tutorial of overlays shows by hand.

mod image;
mod stage;

use super::{CliError, Context, output, stack};
use crate::image::{Input, SourceOptions, open_source};
use crate::import::{self, ImportOptions, Silent};
use crate::store::{Layer, Store};
use crate::sys::Dir;
use stage::Stage;
use std::io::{Seek, Write};
use std::path::PathBuf;

/// Show with a small image of its own how layers work: build, import, mount, change, explain.
///
/// Uses a temporary store and mountpoints/demo, and leaves nothing.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Leave a container mounted to play with
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
///
/// # Errors
/// What failed, with what may help; above all that FUSE is not there.
pub fn run(args: &Args, context: &Context) -> Result<(), CliError> {
    let mut stage = Stage::set(context.json)?;
    build(&mut stage)?;
    look(&mut stage)?;
    change(&mut stage)?;
    tell(&mut stage)?;
    if args.keep {
        stage.end()?;
        return keep(stage, context.json);
    }
    stage.show("Unmounted; the temporary store goes too.", UNMOUNT)?;
    stage.end()
}

const UNMOUNT: &str = "stratafs umount mountpoints/demo mountpoints/demo2";

fn build(stage: &mut Stage) -> Result<(), CliError> {
    stage.say(
        "== An image ==\n\
         Five layers are made in memory, as a build of five steps would make them, and imported\n\
         into a store in a temporary directory.",
    )?;
    let io = |e: &dyn std::error::Error| CliError::failed("making the image of the demo", e);
    let bytes = image::archive().map_err(|e| io(&e))?;
    let scratch = stage.scratch();
    let mut file = tempfile::tempfile_in(&scratch).map_err(|e| io(&e))?;
    file.write_all(&bytes).and_then(|()| file.rewind()).map_err(|e| io(&e))?;
    let spool = Dir::open(&scratch).map_err(|e| io(&e))?;
    let source =
        open_source(Input::Stream(file), &SourceOptions::new(spool)).map_err(|e| io(&e))?;
    let root = stage.root();
    let store = Store::open(&root, true).map_err(|e| io(&e))?;
    let done = import::import(&store, source.images, &ImportOptions::new(&Silent));
    if let Some(e) = done.map_err(|e| io(&e))?.failed.first() {
        return Err(io(e));
    }
    stage.variable("STRATAFS_ROOT", root)?;
    stage.also("stratafs images")?;
    stage.show(
        "Each layer is a directory with the changes of its step. Layer 4 deletes a file, layer 5\n\
         replaces a directory: see WHITEOUTS and OPAQUE.",
        "stratafs layers demo",
    )
}

fn look(stage: &mut Stage) -> Result<(), CliError> {
    stage.show(
        "== Layers merged ==\n\
         Mounted read-only, the five are one tree: doc holds files of layers 1 and 3, app/config\n\
         is that of layer 2, etc/issue of layer 1 is deleted by layer 4, and of app/cache only\n\
         what layer 5 put there is seen.",
        "stratafs mount demo mountpoints/demo",
    )?;
    stage.also("cd mountpoints/demo && ls -C app app/cache doc etc && cat app/config")?;
    stage.also("stratafs umount mountpoints/demo")
}

fn change(stage: &mut Stage) -> Result<(), CliError> {
    stage.show(
        "== Two containers ==\n\
         A container is an empty writable layer upon the image's. Two of them share the five.",
        "stratafs create --name one demo >/dev/null && stratafs mount one mountpoints/demo",
    )?;
    stage.also(
        "stratafs create --name two demo >/dev/null && stratafs mount two mountpoints/demo2",
    )?;
    stage.also("stratafs containers")?;
    let (upper, layers) = places(stage)?;
    stage.say("Where the writable layer of container one lies, and those of the image:")?;
    stage.variable("UPPER", upper)?;
    for (i, path) in layers.into_iter().enumerate().take(2) {
        stage.variable(&format!("LAYER{}", i + 1), path)?;
    }

    stage.show(
        "== Write: copy-up ==\n\
         The first write copies the file into the writable layer; that of layer 2 stays.",
        "echo 'size = 7' >> mountpoints/demo/app/config",
    )?;
    stage.also("cat $UPPER/app/config")?;
    stage.also("cat $LAYER2/app/config")?;

    stage.show(
        "== Delete: a whiteout ==\n\
         A file of a layer below cannot be removed, so a character device 0:0 in the writable\n\
         layer hides it. The layer keeps its file. (What else is in etc comes from the init layer\n\
         that every container has.)",
        "rm mountpoints/demo/etc/motd && ls mountpoints/demo/etc",
    )?;
    stage.also("stat -c '%A %t:%T %n' $UPPER/etc/motd")?;
    stage.also("cat $LAYER1/etc/motd")?;

    stage.show(
        "== Replace a directory: opaque ==\n\
         Removed and made again, doc is a new directory: a mark on it hides what the layers\n\
         below hold.",
        "rm -r mountpoints/demo/doc && mkdir mountpoints/demo/doc && echo New. > mountpoints/demo/doc/new.txt",
    )?;
    stage.also("ls mountpoints/demo/doc && ls $LAYER1/doc")?;

    stage.show(
        "== The other container sees none of it ==",
        "cat mountpoints/demo2/app/config && ls -C mountpoints/demo2/etc mountpoints/demo2/doc",
    )
}

fn tell(stage: &mut Stage) -> Result<(), CliError> {
    stage.show(
        "== What changed, and why ==\n\
         diff lists what container one changed; container two changed nothing.",
        "stratafs diff one && stratafs diff two",
    )?;
    stage.show(
        "explain says which layer brings a path, and which hides it.",
        "stratafs explain one /etc/motd",
    )?;
    stage.show(
        "It answers for images, containers, mount points and plain directories.",
        "stratafs explain mountpoints/demo2 /app/cache/old-1",
    )
}

/// The directories of container one's writable layer, and of the image's layers, bottom first.
fn places(stage: &Stage) -> Result<(PathBuf, Vec<PathBuf>), CliError> {
    let store = Store::open(&stage.root(), false).map_err(|e| stack::no_store(&e))?;
    let one = store.find_container("one").map_err(|e| stack::no_store(&e))?;
    let chain: Vec<Layer> = match &one.parent {
        Some(top) => store.chain(top).map_err(|e| stack::no_store(&e))?,
        None => Vec::new(),
    };
    let diff = |cache: &crate::id::CacheId| {
        stage.root().join("overlay2").join(cache.as_str()).join("diff")
    };
    Ok((diff(&one.mount), chain.iter().map(|l| diff(&l.cache)).collect()))
}

fn keep(stage: Stage, json: bool) -> Result<(), CliError> {
    let (base, scratch, root) = (stage.base().to_owned(), stage.scratch(), stage.root());
    let program = stage.program().to_owned();
    stage.keep();
    if json {
        return Ok(());
    }
    output::print(&format!(
        "\nBoth containers stay mounted. To play:\n\
         \n  cd {base}\n  export STRATAFS_ROOT={root}\n  alias stratafs={program}\n  \
         ls mountpoints/demo; stratafs explain mountpoints/demo /etc/issue\n\
         \nTo end it:\n\n  {UNMOUNT}\n  rm -r {scratch}\n",
        base = base.display(),
        root = root.display(),
        program = program.display(),
        scratch = scratch.display(),
    ))
}
