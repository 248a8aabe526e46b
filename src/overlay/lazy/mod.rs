//! Block-level copy-up: the first write to a large lower file does not wait for all of it.
//!
//! The upper's file is made sparse, of full length, with `overlay.metacopy` on it, so that no
//! other overlay takes it for whole. Which of its blocks are the file's is in a [`map`]; all others
//! are the lower's. The map is kept in memory and in a [`log`] in the work directory, and a crash
//! at any point leaves a log from which it can be made again.
//!
//! # What a crash may lose
//! A record is appended after the data that it speaks of was handed to the kernel. When the daemon
//! alone dies, both are still there, and the whole log counts. When the machine dies, the kernel
//! may have written the record and not the data: a record counts only if a seal follows it, which
//! is written after the data were synced. Which of the two happened is told by the boot id in the
//! log's head.

pub(super) mod log;
pub(super) mod map;
