//! What a copy-up will do, decided before anything is changed.

use super::error::{Doing as _, Result};
use super::inode::{FileInode, Place};
use super::io::CAPABILITY;
use super::lower::{At, LowerLayer, Meta};
use super::types::SetAttr;
use super::{Overlay, ino};
use crate::index::Kind;
use crate::resolve::LayerRef;
use crate::sys::{File, FileType, TimeSet};

/// How much of a file's data the copy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// All of it.
    All,
    /// None: the caller is about to cut the file to length zero.
    Nothing,
    /// None: the caller changes attributes only. The data stays in the lower (metacopy).
    StaysBelow,
}

/// What is copied, and what the copy will be.
pub(super) struct Plan {
    pub(super) at: At,
    pub(super) meta: Meta,
    pub(super) target: Vec<u8>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The lower file's content, if it was opened to look at it.
    pub(super) content: Option<File>,
    /// How many bytes are copied.
    pub(super) bytes: u64,
    /// Whether the data stays in the lower.
    pub(super) metacopy: bool,
    /// The access and modification times that the copy gets.
    pub(super) times: [TimeSet; 2],
    /// The names that the copy gets, the first by the rename.
    pub(super) names: Vec<Place>,
}

impl Plan {
    /// Returns whether its blocks may come later: the view shows one name, and it has neither
    /// set-id bits nor capabilities, which the writing of them would take away.
    pub(super) fn may_be_lazy(&self) -> bool {
        self.is_alone()
            && self.meta.mode & 0o6000 == 0
            && !self.xattrs.iter().any(|(key, _)| key == CAPABILITY)
    }

    /// Returns whether the view shows the file under one name. Links from outside of the layer, as
    /// those between layers that share their files, are no names here.
    pub(super) fn is_alone(&self) -> bool {
        self.names.len() == 1
    }

    /// Makes a copy that has its new attributes when it appears, if the new ones take nothing of
    /// the file away and all of it appears at once. Returns whether it is so.
    pub(super) fn adopt(&mut self, set: &SetAttr) -> bool {
        let can_be = self.meta.kind == FileType::File
            && set.size.is_none()
            && (self.meta.mode | set.mode.unwrap_or(0)) & 0o6000 == 0
            && self.xattrs.is_empty()
            && self.is_alone();
        if can_be {
            self.meta.mode = set.mode.map_or(self.meta.mode, |m| m & 0o7777);
            self.meta.uid = set.uid.unwrap_or(self.meta.uid);
            self.meta.gid = set.gid.unwrap_or(self.meta.gid);
            self.times = [set.atime.unwrap_or(self.times[0]), set.mtime.unwrap_or(self.times[1])];
        }
        can_be
    }
}

/// What is known of a lower file that is to be copied.
struct Source {
    meta: Meta,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its content, if it was opened and is where its attributes are.
    content: Option<File>,
    metacopy: bool,
}

impl Overlay {
    /// Looks at what is to be copied. Only reads.
    pub(super) fn plan(&self, file: &FileInode, at: At, data: Data) -> Result<Plan> {
        let layer = self.lower(at)?;
        let Source { meta, xattrs, content, metacopy: below_metacopy } = self.source(at, data)?;
        let target =
            if meta.kind == FileType::Symlink { layer.readlink(at.node)? } else { Vec::new() };
        // a lower metacopy's data is further below, and may be at another name: then all is copied
        let metacopy = data == Data::StaysBelow
            && self.options.metacopy
            && meta.kind == FileType::File
            && meta.nlink == 1
            && meta.size > 0
            && !below_metacopy;
        let bytes = match (meta.kind, data) {
            (FileType::File, Data::All) => meta.size,
            (FileType::File, Data::StaysBelow) if !metacopy => meta.size,
            _ => 0,
        };
        let mut names = file.state.read().lower_names.clone();
        if meta.nlink > 1 || ino::decode(file.ino).is_some() {
            for found in self.names_of(file.ino, at)? {
                if !names.contains(&found) {
                    names.push(found);
                }
            }
        }
        let times = [TimeSet::At(meta.atime), TimeSet::At(meta.mtime)];
        Ok(Plan { at, meta, target, xattrs, content, bytes, metacopy, times, names })
    }

    /// Looks at the lower file; where its content is needed, by means of its open content.
    fn source(&self, at: At, data: Data) -> Result<Source> {
        let layer = self.lower(at)?;
        let needs_content = match data {
            Data::All => true,
            Data::StaysBelow => !self.options.metacopy,
            Data::Nothing => false,
        };
        let mut content = None;
        if needs_content
            && let LowerLayer::Plain(plain) = layer
            && plain.kind(at.node) == Kind::File
        {
            let (opened, stat) = plain.open_here(at.node)?;
            let here = LayerRef::Lower(at.layer);
            if opened.list_xattr().layer(here, "list extended attributes")?.is_empty() {
                let (meta, content) = (Meta::from(&stat), Some(opened));
                return Ok(Source { meta, xattrs: Vec::new(), content, metacopy: false });
            }
            content = Some(opened);
        }
        let meta = layer.meta(at.node)?;
        let metacopy = meta.kind == FileType::File && layer.is_metacopy(at.node)?;
        if metacopy || meta.kind != FileType::File {
            content = None;
        }
        Ok(Source { meta, xattrs: layer.xattrs(at.node)?, content, metacopy })
    }
}
