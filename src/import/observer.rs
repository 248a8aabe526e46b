//! Progress of an import, for whoever wants to show it.

use std::fmt;

/// Is told what an import does. Calls come from several threads.
pub trait Observer: Sync + fmt::Debug {
    /// An image of `layers` layers begins, of which the store has the lowest `shared`; the blobs of
    /// the others have `bytes` bytes together, if that is known.
    fn image_begins(&self, _name: &str, _layers: usize, _shared: usize, _bytes: Option<u64>) {}
    /// A layer begins; `number` is 1 for the bottom one, `size` that of its blob if known.
    fn layer_begins(&self, _number: usize, _size: Option<u64>) {}
    /// More bytes of a layer's blob were read.
    fn layer_read(&self, _number: usize, _bytes: u64) {}
    /// A layer was read to its end and is right.
    fn layer_ends(&self, _number: usize) {}
    /// The last image's layers are being made durable.
    fn committing(&self) {}
    /// The image is in the store.
    fn image_ends(&self) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {}
