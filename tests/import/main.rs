//! Images from sources of every form into a store, hostile ones and killed imports included.
#![allow(clippy::print_stderr)]

mod archive;
mod damage;
mod forms;
mod hostile;
mod kill;
mod lowerdir;
mod stack;
mod support;
