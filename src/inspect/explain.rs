//! `explain`: what every layer says of one path, and what comes of it.

use super::descend::{Held, Hide, Level, Sight, Why};
use super::{InspectError, LayerKind, LayerView, Layers, form, number, verdict};
use crate::index::{Kind, Node, NodeId};
use crate::name::{Name, components, printable};
use crate::sys::{major, minor};
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;

/// What part a layer plays at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// What is seen is its file, or its directory gives the attributes.
    Provides,
    /// Its directory is merged under the one that provides.
    Merged,
    /// The same, but the directory has another name here: one above was renamed.
    RedirectedFrom,
    /// It has a whiteout of this name.
    Deletes,
    /// A whiteout in a layer above hides what it holds.
    HiddenByWhiteout,
    /// An opaque directory in a layer above hides what it holds.
    HiddenByOpaque,
    /// Something in a layer above that is no directory hides what it holds.
    HiddenByNondir,
    /// It holds something that is no directory, and a layer above has a directory.
    HiddenByDirectory,
    /// A directory of a layer above was renamed to this name and brings its own contents.
    HiddenByRedirect,
    /// It holds nothing there.
    Absent,
}

impl State {
    /// Returns the word that text and JSON use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Provides => "provides",
            State::Merged => "merged",
            State::RedirectedFrom => "redirected-from",
            State::Deletes => "deletes",
            State::HiddenByWhiteout => "hidden-by-whiteout",
            State::HiddenByOpaque => "hidden-by-opaque",
            State::HiddenByNondir => "hidden-by-nondir",
            State::HiddenByDirectory => "hidden-by-directory",
            State::HiddenByRedirect => "hidden-by-redirect",
            State::Absent => "absent",
        }
    }
}

/// A mark by which a layer hides what the layers below hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Marker {
    /// The path at which it stands: the one asked for, or one above it.
    pub at: String,
    /// `whiteout`, `opaque`, `redirect`, or the type of the file that stands in the way.
    pub what: &'static str,
    /// How it lies on disk; `None` for a file or directory, which needs no mark.
    pub form: Option<String>,
    /// How it was called in the layer's tar; image layers only.
    pub tar: Option<String>,
}

/// What one layer says. The names of the fields are those of the JSON output and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerState {
    /// Its number, 1 for the bottom layer.
    pub layer: u32,
    /// `upper`, `init`, `image` or `directory`.
    pub kind: LayerKind,
    /// SHA-256 of its tar, with prefix; image layers only.
    pub diff_id: Option<String>,
    /// Its directory under `overlay2/`.
    pub cache_id: Option<String>,
    /// Its directory, if it was named by path.
    pub directory: Option<String>,
    /// The step of the image's history that made it.
    pub created_by: Option<String>,
    /// What part it plays.
    pub state: State,
    /// For `hidden-by-…`: the number of the layer that hides it.
    pub hidden_by: Option<u32>,
    /// For `hidden-by-…`: the path at which that layer does so.
    pub hidden_at: Option<String>,
    /// The mark by which it hides layers below, or would if they held anything.
    pub marker: Option<Marker>,
    /// What it holds: `file`, `directory`, `symlink`, `whiteout` and so on.
    #[serde(rename = "type")]
    pub file_type: Option<&'static str>,
    /// For a file that holds attributes alone, its data being in a layer below: the mark that says so.
    pub metacopy: Option<String>,
    /// Where in the layer that is, if not at the path that was asked for.
    pub stored_at: Option<String>,
    /// Bytes of a file, or of a symlink's target.
    pub size: Option<u64>,
    /// Permission, set-id and sticky bits, four octal digits.
    pub mode: Option<String>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Target of a symlink.
    pub target: Option<String>,
    /// `MAJOR:MINOR` of a device.
    pub device: Option<String>,
}

/// A symlink in the way to the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Where it is.
    pub at: String,
    /// What it says.
    pub target: String,
    /// Number of the layer that brings it.
    pub layer: u32,
    /// The path to ask for instead.
    pub ask: String,
}

/// The answer. The names of the fields are those of the JSON output and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The path, beginning with a slash.
    pub path: String,
    /// Whether it is seen.
    pub visible: bool,
    /// Number of the layer that provides it.
    pub layer: Option<u32>,
    /// The first symlink on the way. Symlinks are not followed.
    pub symlink: Option<Link>,
    /// What each layer says, top first.
    pub layers: Vec<LayerState>,
    /// It all in one sentence.
    pub verdict: String,
}

/// Tells what each layer says of `path`, whether it is seen, and why.
///
/// # Errors
/// [`InspectError::Path`] if the path holds `..` or a name that is none.
pub fn explain(layers: &Layers, path: &[u8]) -> Result<Explanation, InspectError> {
    let parts = components(path).map_err(|e| InspectError::Path(path.to_vec(), e))?;
    let mut levels = vec![Level::root(&layers.0)];
    for part in &parts {
        if let Some(next) = levels.last().map(|l| l.descend(&layers.0, part.bytes())) {
            levels.push(next);
        }
    }
    let story = Story { layers: &layers.0, parts, levels };
    let provider = story.last().provider();
    Ok(Explanation {
        path: story.path_at(story.parts.len()),
        visible: provider.is_some(),
        layer: provider.map(|(i, _)| story.number(i)),
        symlink: story.symlink(),
        layers: (0..layers.0.len()).map(|i| story.row(i)).collect(),
        verdict: verdict::of(&story),
    })
}

/// All that was found on the way down.
pub(super) struct Story<'a> {
    pub(super) layers: &'a [LayerView],
    pub(super) parts: Vec<Name<'a>>,
    /// One more than `parts`: the root is the first.
    pub(super) levels: Vec<Level>,
}

impl<'a> Story<'a> {
    pub(super) fn last(&self) -> &Level {
        // `levels` begins with the root and only grows
        &self.levels[self.levels.len() - 1]
    }

    pub(super) fn number(&self, position: usize) -> u32 {
        number(self.layers.len(), position)
    }

    pub(super) fn raw_path(&self, depth: usize) -> Vec<u8> {
        let parts = &self.parts[..depth.min(self.parts.len())];
        if parts.is_empty() {
            return b"/".to_vec();
        }
        parts.iter().flat_map(|p| [b"/", p.bytes()].concat()).collect()
    }

    pub(super) fn path_at(&self, depth: usize) -> String {
        printable(&self.raw_path(depth))
    }

    pub(super) fn node(&self, position: usize, node: NodeId) -> Option<Node<'a>> {
        self.layers.get(position)?.index.node(node)
    }

    /// What a layer holds at a level.
    pub(super) fn held(&self, depth: usize, position: usize) -> Option<Held> {
        self.levels.get(depth)?.held.get(position).copied().flatten()
    }

    /// What is seen at a level, and the layer that it comes from.
    pub(super) fn seen(&self, depth: usize) -> Option<(usize, Node<'a>)> {
        let (i, node) = self.levels.get(depth)?.provider()?;
        Some((i, self.node(i, node)?))
    }

    /// The first symlink above the last component.
    pub(super) fn symlink(&self) -> Option<Link> {
        let depth = (1..self.parts.len())
            .find(|d| self.seen(*d).is_some_and(|(_, n)| n.kind == Kind::Symlink))?;
        let (i, node) = self.seen(depth)?;
        let target = self.layers[i].index.symlink_target(node.id);
        let mut ask: Vec<&[u8]> = match target.first() {
            Some(b'/') => Vec::new(),
            _ => self.parts[..depth - 1].iter().map(|p| p.bytes()).collect(),
        };
        let rest = self.parts[depth..].iter().map(|p| p.bytes());
        for part in target.split(|b| *b == b'/').chain(rest) {
            match part {
                b"" | b"." => {}
                b".." => drop(ask.pop()),
                name => ask.push(name),
            }
        }
        let ask: Vec<u8> = ask.iter().flat_map(|p| [b"/", *p].concat()).collect();
        Some(Link {
            at: self.path_at(depth),
            target: printable(target),
            layer: self.number(i),
            ask: printable(&ask),
        })
    }

    /// The level and reason for which a layer hides others, as far as it matters for the path.
    fn hides(&self, position: usize) -> Option<(usize, Why)> {
        let hidden = self.last().held.iter().flatten().filter_map(|h| match h.sight {
            Sight::Hidden(hide) if hide.by == position => Some((hide.depth, hide.why)),
            _ => None,
        });
        hidden.min_by_key(|(depth, _)| *depth)
    }

    fn marker(&self, position: usize) -> Option<Marker> {
        let depth = self.parts.len();
        let (depth, why) = self.hides(position).or_else(|| {
            // marks that hide nothing here are told too
            let held = self.held(depth, position)?;
            let opaque = self.node(position, held.node)?.opaque && depth > 0;
            match held.sight {
                Sight::Deletes => Some((depth, Why::Whiteout)),
                _ if opaque => Some((depth, Why::Opaque)),
                _ => None,
            }
        })?;
        let layer = &self.layers[position];
        let node = self.held(depth, position)?.node;
        let kind = self.node(position, node)?.kind;
        let (what, form, tar) = match why {
            Why::Whiteout => {
                ("whiteout", Some(form::whiteout(layer, node)), form::whiteout_in_tar(layer, node))
            }
            Why::Opaque => {
                ("opaque", Some(form::opaque(layer, node)), form::opaque_in_tar(layer, node))
            }
            Why::Redirect => ("redirect", Some(form::redirect(layer, node)), None),
            Why::NonDirectory | Why::Directory => (word(kind), None, None),
        };
        Some(Marker { at: self.path_at(depth), what, form, tar })
    }

    fn row(&self, position: usize) -> LayerState {
        let layer = &self.layers[position];
        let held = self.held(self.parts.len(), position);
        let node = held.and_then(|h| self.node(position, h.node));
        let hide = match held.map(|h| h.sight) {
            Some(Sight::Hidden(h)) => Some(h),
            _ => None,
        };
        let file = node.filter(|n| n.kind != Kind::Whiteout);
        let sized = node.filter(|n| matches!(n.kind, Kind::File | Kind::Symlink));
        let stored = held.map(|h| [b"/", &layer.index.path(h.node)[..]].concat());
        LayerState {
            layer: self.number(position),
            kind: layer.kind,
            diff_id: layer.diff.map(|d| d.to_string()),
            cache_id: layer.cache.as_ref().map(ToString::to_string),
            directory: layer.path.as_ref().map(|p| printable(p.as_os_str().as_bytes())),
            created_by: layer.created_by.as_ref().map(|c| printable(c.as_bytes())),
            state: held.map_or(State::Absent, |h| state(&h)),
            hidden_by: hide.map(|h| self.number(h.by)),
            hidden_at: hide.map(|h: Hide| self.path_at(h.depth)),
            marker: self.marker(position),
            file_type: node.map(|n| word(n.kind)),
            metacopy: node
                .filter(|n| n.kind == Kind::File)
                .and_then(|n| form::metacopy(layer, n.id)),
            stored_at: stored
                .filter(|p| *p != self.raw_path(self.parts.len()))
                .map(|p| printable(&p)),
            size: sized.map(|n| n.size),
            mode: file.map(|n| format!("{:04o}", n.mode)),
            uid: file.map(|n| n.uid),
            gid: file.map(|n| n.gid),
            target: node
                .filter(|n| n.kind == Kind::Symlink)
                .map(|n| printable(layer.index.symlink_target(n.id))),
            device: node
                .filter(|n| matches!(n.kind, Kind::Char | Kind::Block))
                .map(|n| format!("{}:{}", major(n.rdev), minor(n.rdev))),
        }
    }
}

fn state(held: &Held) -> State {
    match held.sight {
        Sight::Provides => State::Provides,
        Sight::Merged if held.redirected => State::RedirectedFrom,
        Sight::Merged => State::Merged,
        Sight::Deletes => State::Deletes,
        Sight::Hidden(h) => match h.why {
            Why::Whiteout => State::HiddenByWhiteout,
            Why::Opaque => State::HiddenByOpaque,
            Why::NonDirectory => State::HiddenByNondir,
            Why::Directory => State::HiddenByDirectory,
            Why::Redirect => State::HiddenByRedirect,
        },
    }
}

pub(super) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Char => "character device",
        Kind::Block => "block device",
        Kind::Socket => "socket",
        Kind::Whiteout => "whiteout",
    }
}
