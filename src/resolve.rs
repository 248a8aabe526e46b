//! The merge: which layer provides a name, which are merged, which are hidden and by what.
//!
//! One resolution order for the whole program. The mount, `explain`, `diff` and the importer feed
//! what they find in each layer, top first, into a [`Merge`] and act on the [`Role`] that it
//! gives the layer. Nothing here touches a disk.
//!
//! Source: the kernel's `overlayfs.rst` ("Upper and Lower", "whiteouts and opaque directories").

use crate::id::LayerIndex;
use serde::Serialize;

/// A layer of a stack: one of the lowers, or the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerRef {
    /// A lower layer.
    Lower(LayerIndex),
    /// The writable layer on top.
    Upper,
}

/// What one layer holds under a name, as far as the merge cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing.
    Absent,
    /// A whiteout.
    Whiteout,
    /// A directory.
    Dir {
        /// Whether it hides what the layers below hold.
        opaque: bool,
    },
    /// Anything else.
    Leaf,
}

/// What hides the layers below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A whiteout of this name.
    Whiteout,
    /// An opaque directory of this name.
    Opaque,
    /// Something that is no directory.
    NonDirectory,
}

/// Where the layers below were cut off, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The layer that hides those below it.
    pub by: LayerRef,
    /// What it holds.
    pub reason: Reason,
}

/// What part a layer plays in what is seen under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds nothing of that name.
    Absent,
    /// What is seen is its file, or its directory gives the attributes.
    Provides,
    /// Its directory is merged under the one that provides.
    Merged,
    /// It deletes the name: its whiteout is the topmost thing of that name.
    Deletes,
    /// It holds something that is not seen, hidden by a layer above.
    Hidden(Cut),
}

/// The state of one name's merge. Feed the layers top first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Merge {
    provider_is_dir: bool,
    cut: Option<Cut>,
}

impl Merge {
    /// Takes in what `layer` holds and returns its part.
    pub fn feed(&mut self, layer: LayerRef, probe: Probe) -> Role {
        if probe == Probe::Absent {
            return Role::Absent;
        }
        if let Some(cut) = self.cut {
            return Role::Hidden(cut);
        }
        let cut = |reason| Some(Cut { by: layer, reason });
        match probe {
            Probe::Absent => Role::Absent,
            Probe::Whiteout => {
                self.cut = cut(Reason::Whiteout);
                // below a directory a whiteout only ends the merge
                if self.provider_is_dir { Role::Merged } else { Role::Deletes }
            }
            Probe::Dir { opaque } => {
                if opaque {
                    self.cut = cut(Reason::Opaque);
                }
                if std::mem::replace(&mut self.provider_is_dir, true) {
                    Role::Merged
                } else {
                    Role::Provides
                }
            }
            Probe::Leaf => {
                let hidden = self.provider_is_dir;
                self.cut = cut(Reason::NonDirectory);
                match self.cut {
                    // a directory above replaced this file, and the file hides what is below it
                    Some(c) if hidden => Role::Hidden(c),
                    _ => Role::Provides,
                }
            }
        }
    }

    /// Returns what ended the merge, if something did: the layers below need not be asked.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Probe = Probe::Dir { opaque: false };
    const OPAQUE: Probe = Probe::Dir { opaque: true };

    fn roles(probes: &[Probe]) -> Vec<Role> {
        let mut m = Merge::default();
        let n = probes.len() as u32;
        probes
            .iter()
            .enumerate()
            .map(|(i, p)| m.feed(LayerRef::Lower(LayerIndex(n - 1 - i as u32)), *p))
            .collect()
    }

    fn hidden(by: u32, reason: Reason) -> Role {
        Role::Hidden(Cut { by: LayerRef::Lower(LayerIndex(by)), reason })
    }

    #[test]
    fn the_table_of_the_kernel_document() {
        use Probe::{Absent, Leaf, Whiteout};
        for (probes, expected) in [
            (vec![Leaf, Leaf], vec![Role::Provides, hidden(1, Reason::NonDirectory)]),
            (vec![Absent, Leaf], vec![Role::Absent, Role::Provides]),
            (vec![DIR, DIR], vec![Role::Provides, Role::Merged]),
            (vec![DIR, OPAQUE, DIR], vec![Role::Provides, Role::Merged, hidden(1, Reason::Opaque)]),
            (vec![Whiteout, DIR], vec![Role::Deletes, hidden(1, Reason::Whiteout)]),
            (
                vec![DIR, Whiteout, DIR],
                vec![Role::Provides, Role::Merged, hidden(1, Reason::Whiteout)],
            ),
            (
                vec![DIR, Leaf, DIR],
                vec![
                    Role::Provides,
                    hidden(1, Reason::NonDirectory),
                    hidden(1, Reason::NonDirectory),
                ],
            ),
            (
                vec![Leaf, DIR, DIR],
                vec![
                    Role::Provides,
                    hidden(2, Reason::NonDirectory),
                    hidden(2, Reason::NonDirectory),
                ],
            ),
        ] {
            assert_eq!(roles(&probes), expected, "{probes:?}");
        }
    }

    #[test]
    fn a_cut_tells_where_to_stop() {
        let mut m = Merge::default();
        m.feed(LayerRef::Upper, DIR);
        assert_eq!(m.cut(), None);
        m.feed(LayerRef::Lower(LayerIndex(3)), OPAQUE);
        assert_eq!(
            m.cut(),
            Some(Cut { by: LayerRef::Lower(LayerIndex(3)), reason: Reason::Opaque })
        );
    }
}
