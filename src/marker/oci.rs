//! Markers in layer tars: `.wh.` names (image-spec `layer.md`) and what AUFS left behind.

use crate::name::{BadName, Name};

/// What a whiteout's name begins with.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name that makes its directory opaque.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// What one name in a layer tar says. A marker is known by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OciMarker<'a> {
    /// `.wh.NAME`: NAME of the layers below is deleted.
    Whiteout(Name<'a>),
    /// `.wh..wh..opq`: everything that the layers below hold in this directory is deleted.
    Opaque,
    /// `.wh..wh.*` of AUFS (`aufs`, `orph`, `plnk`): bookkeeping, never visible.
    AufsMeta,
}

impl<'a> OciMarker<'a> {
    /// Returns what `name` marks, or `None` for an ordinary name.
    ///
    /// # Errors
    /// `.wh.`, `.wh..` and `.wh...` name nothing that could be deleted.
    pub fn parse(name: &'a [u8]) -> Result<Option<OciMarker<'a>>, BadName> {
        if name == OPAQUE_NAME {
            return Ok(Some(OciMarker::Opaque));
        }
        let Some(rest) = name.strip_prefix(WHITEOUT_PREFIX) else { return Ok(None) };
        if rest.starts_with(WHITEOUT_PREFIX) {
            return Ok(Some(OciMarker::AufsMeta));
        }
        Ok(Some(OciMarker::Whiteout(Name::new(rest)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_markers() {
        assert_eq!(OciMarker::parse(b"wh.x"), Ok(None));
        assert_eq!(OciMarker::parse(b".wh"), Ok(None));
        assert_eq!(OciMarker::parse(b".whx"), Ok(None));
        assert_eq!(OciMarker::parse(b".wh..wh..opq"), Ok(Some(OciMarker::Opaque)));
        assert_eq!(OciMarker::parse(b".wh..wh.plnk"), Ok(Some(OciMarker::AufsMeta)));
        let x = Name::new(b"x").unwrap();
        assert_eq!(OciMarker::parse(b".wh.x"), Ok(Some(OciMarker::Whiteout(x))));
        for bad in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(OciMarker::parse(bad).is_err());
        }
    }
}
