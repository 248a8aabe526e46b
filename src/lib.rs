//! A FUSE union filesystem over a Docker-shaped layer store.

pub mod cli;
pub mod fuse;
pub mod id;
pub mod image;
pub mod import;
pub mod index;
pub mod indexes;
pub mod inspect;
pub mod marker;
pub mod name;
pub mod overlay;
pub mod resolve;
pub mod store;
pub mod sys;
pub mod unpack;
