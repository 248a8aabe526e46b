//! The same steps where nothing can be changed: what is refused, and in which order of reasons.

use crate::allow;
use crate::exec::Place;
use crate::op::Step;
use crate::world::Mounts;
use std::path::PathBuf;

/// Does the steps in mounts of layers alone; ours may be an image of them.
pub fn compare(
    mounts: &Mounts,
    image: Option<&str>,
    layers: &[PathBuf],
    steps: &[Step],
) -> Result<(), String> {
    let mut kernel = Place::new(mounts.kernel(layers, None, true)?);
    let mut ours = Place::new(match image {
        Some(name) => mounts.mount_image(name)?,
        None => mounts.ours(layers, None)?,
    });
    for (i, step) in steps.iter().enumerate() {
        let (k, o) = (kernel.run(*step), ours.run(*step));
        if image.is_some() && allow::no_attributes(*step, &o) {
            continue;
        }
        // files of which a layer above hides some names
        if k != o && allow::stated(&k, &o, true).is_none() {
            return Err(format!(
                "read-only, step {i}, {step:?}:\n  stratafs: {o}\n  kernel:   {k}"
            ));
        }
    }
    // what is held keeps a mount busy
    drop((kernel, ours));
    mounts.unmount_ours()?;
    mounts.unmount_kernel()
}
