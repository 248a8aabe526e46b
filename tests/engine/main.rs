//! The overlay engine without a mount: on temporary directories, through its own interface.
#![allow(missing_docs, unreachable_pub, missing_debug_implementations)]

mod access_times;
mod changes;
mod faults;
mod held_back;
mod known_lowers;
mod lazy;
mod lower_changes;
mod merge;
mod metacopy;
mod model;
mod numbers;
mod objects;
mod on_disk;
mod private_view;
mod settle;
mod staging;
mod support;
mod xattrs;
