//! A snapshot of a directory tree: what stat(2), readdir(3), readlink(2) and getxattr(2) said of
//! all that is in it, in one immutable, memory-mapped file.
//!
//! A layer index says what a layer means; a snapshot says what a directory looked like and gives no
//! meaning to it, so that whoever reads it finds what he would find on the disk. It is of use only to
//! somebody who knows that the directory still looks so: because he has compared the two
//! ([`Snapshot::compare`]), or because he was told that nobody changes it.
//!
//! Trees of which a snapshot would be no true picture have none ([`TakeError::Unfit`]).

mod believed;
mod compare;
mod format;
mod read;
mod take;
#[cfg(test)]
mod tests;

pub use believed::{Believed, Slot};
pub use compare::Compared;
pub use read::{Fresh, RecordId, Seen, Snapshot};
pub use take::{Bounds, TakeError, Taken, take, unfit};
