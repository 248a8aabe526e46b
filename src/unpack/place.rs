//! What an entry's name leads to, from its bytes alone.

use super::error::{Limits, Refusal};
use crate::marker::{OciMarker, WHITEOUT_PREFIX};
use crate::name::Name;

/// What AUFS' bookkeeping names begin with.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// Longest name of AUFS' bookkeeping in bytes: `.wh..wh.plnk/INODE.DEVICE` is far shorter.
const HIDDEN_MAX: usize = 4096;

/// What an entry's name leads to.
pub(super) enum Place<'e> {
    Root,
    /// A name in a directory.
    At(Vec<Name<'e>>, Name<'e>),
    /// A marker in a directory.
    Marker(Vec<Name<'e>>, OciMarker<'e>),
    /// AUFS' bookkeeping.
    Hidden(Vec<u8>),
}

impl<'e> Place<'e> {
    pub(super) fn of(path: &'e [u8], limits: &Limits) -> Result<Place<'e>, Refusal> {
        let mut parts: Vec<&[u8]> =
            path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
        if parts.len() > limits.depth {
            return Err(Refusal::Depth(limits.depth));
        }
        if parts.contains(&&b".."[..]) {
            return Err(Refusal::Name(crate::name::BadName::Dots));
        }
        let Some(last) = parts.pop() else { return Ok(Place::Root) };
        let marker = OciMarker::parse(last).map_err(Refusal::Whiteout)?;
        let in_aufs = parts.iter().any(|p| p.starts_with(AUFS_PREFIX));
        if in_aufs || marker == Some(OciMarker::AufsMeta) {
            parts.push(last);
            let path = parts.join(&b'/');
            // kept in memory as they are, unlike all other names
            if path.len() > HIDDEN_MAX {
                return Err(Refusal::TooLong("name", HIDDEN_MAX));
            }
            return Ok(Place::Hidden(path));
        }
        if parts.iter().any(|p| p.starts_with(WHITEOUT_PREFIX)) {
            return Err(Refusal::BelowMarker);
        }
        let parents: Result<Vec<_>, _> = parts.into_iter().map(Name::new).collect();
        let parents = parents.map_err(Refusal::Name)?;
        match marker {
            Some(m) => Ok(Place::Marker(parents, m)),
            None => Ok(Place::At(parents, Name::new(last).map_err(Refusal::Name)?)),
        }
    }
}
