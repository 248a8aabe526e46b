//! A FUSE union filesystem over a Docker-shaped layer store.

pub mod id;
pub mod index;
pub mod marker;
pub mod name;
pub mod overlay;
pub mod resolve;
pub mod store;
pub mod sys;
pub mod unpack;
