//! A FUSE union filesystem over a Docker-shaped layer store: mount, change and explain stacks of
//! image layers as an ordinary user.
//!
//! # Parts, and who may know whom
//! ```text
//! main -> cli -> { fuse, inspect, overlay, commit, import, indexes, store, image }
//! fuse -> overlay        inspect -> { overlay, index }
//! overlay -> { resolve, index, marker, snapshot }          index_cache -> { snapshot, id }
//! commit -> { overlay, import, image, index, store }
//! import -> { image, unpack, indexes, store }              indexes -> { unpack, index, store }
//! unpack -> { resolve, index, marker }                     index, store, image -> marker
//! everything -> { id, name, sys, bytes }                   sys -> nothing of ours
//! ```
//! `tests/architecture.rs` keeps these arrows.
//!
//! * [`resolve`]: the merge as a pure function; one resolution order for mount, explain and import.
//! * [`overlay`]: the engine, a plain API over inode numbers and names; knows no FUSE and no store.
//! * [`fuse`]: the adapter: converts, calls the engine, replies once.
//! * [`index`]: one mapped file per layer that answers every question about the layer's names.
//! * [`snapshot`]: what a plain directory looked like; [`index_cache`] keeps those of lower
//!   directories from one mount to the next, and says when they may be believed.
//! * [`store`]: Docker's data root on disk; [`indexes`] finds or rebuilds the indexes of a chain.
//! * [`image`], [`unpack`], [`import`]: where images come from, and how they get into the store.
//! * [`commit`]: from what a container changed to one more layer, and an image of it.
//! * [`inspect`]: explain, layers, diff.
//! * [`marker`]: how a layer says deleted, opaque, moved, owned by; [`sys`]: every system call.
//!
//! What the merged view is, and where it differs from the kernel's overlayfs, is in [`semantics`].
//!
//! # Where this differs from the founding design
//! * The pure merge is a module of its own ([`resolve`]), because the importer needs it as much as
//!   the engine does: a directory without an entry in its layer takes its attributes from the
//!   merged view below.
//! * The layer index is a module of its own ([`index`]) below the engine: the engine reads it
//!   directly, and so no trait stands between a lookup and the mapped file.
//! * A layer's index lies in its layerdb entry as `stratafs.index`, what a mount needs of a whole
//!   chain in that of its uppermost layer as `stratafs.stack`, a container's name and image
//!   in `layerdb/mounts/ID/stratafs.json`; a dockerd ignores both.
//! * In the drop-in form redirects are off by default when the upper belongs to a store of
//!   containers/storage or Docker (`ID/diff` with `ID/link` beside it): those tools archive the
//!   directory itself, and what a redirect leads to would be missing from their image.

mod bytes;
pub mod cli;
pub mod commit;
pub mod fuse;
pub mod id;
pub mod image;
pub mod import;
pub mod index;
pub mod index_cache;
pub mod indexes;
pub mod inspect;
pub mod marker;
pub mod name;
pub mod overlay;
pub mod reference;
pub mod resolve;
pub mod semantics;
pub mod snapshot;
pub mod store;
pub mod sys;
pub mod unpack;
