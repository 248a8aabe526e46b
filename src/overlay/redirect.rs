//! Where the layers below hold a directory that the upper has moved (`overlay.redirect`; kernel
//! documentation, overlayfs.rst, "redirect_dir").

use super::Overlay;
use super::error::{Doing as _, Error, Result};
use super::inode::DirInode;
use super::listing::{Below, Found, OwnEntry};
use super::types::Ino;
use crate::marker::Redirect;
use crate::sys::Node;
use std::sync::Arc;

/// The longest absolute redirect that the kernel follows by default, in bytes.
const REDIRECT_MAX: usize = 256;

impl Overlay {
    /// Writes the redirect of the directory `node` that is about to move from this name. With
    /// `stays` it gets another name in the same directory.
    ///
    /// # Errors
    /// `EXDEV`: the redirect would be longer than the kernel follows.
    pub(super) fn write_redirect(
        &self,
        from: &Arc<DirInode>,
        name: &[u8],
        node: &Node,
        stays: bool,
    ) -> Result<Redirect> {
        let known = node.get_xattr(self.dialect.redirect()).upper("read a redirect")?;
        let known = known.and_then(|v| Redirect::parse(&v).ok());
        let moved = match (known, stays) {
            (Some(r @ Redirect::Absolute(_)), _) => return Ok(r),
            (Some(r @ Redirect::Sibling(_)), true) => return Ok(r),
            (Some(Redirect::Sibling(below)), false) => {
                let mut path = self.path_below(from)?;
                path.push(below);
                Redirect::Absolute(path)
            }
            (None, true) => Redirect::Sibling(name.into()),
            (None, false) => {
                let mut path = self.path_below(from)?;
                path.push(name.into());
                Redirect::Absolute(path)
            }
        };
        let value = moved.encode();
        if value.len() > REDIRECT_MAX && matches!(moved, Redirect::Absolute(_)) {
            return Err(Error::CrossDevice);
        }
        self.pass("rename:redirect")?;
        node.set_xattr(self.dialect.redirect(), &value, false, false).upper("write a redirect")?;
        Ok(moved)
    }

    /// Returns where the lowers have a directory: its path, with the redirects on the way.
    fn path_below(&self, dir: &Arc<DirInode>) -> Result<Vec<Box<[u8]>>> {
        let mut out: Vec<Box<[u8]>> = Vec::new();
        let mut at = dir.clone();
        while at.ino != Ino::ROOT {
            let place = at.place.read().clone();
            let up = self.dir(place.parent)?;
            let entry = self.listing(&up)?.find(&self.lowers, &place.name);
            match entry {
                Some(Found::Own(OwnEntry {
                    below: Below::Redirected(Redirect::Absolute(mut path)),
                    ..
                })) => {
                    out.reverse();
                    path.extend(out);
                    return Ok(path);
                }
                Some(Found::Own(OwnEntry {
                    below: Below::Redirected(Redirect::Sibling(name)),
                    ..
                })) => out.push(name),
                _ => out.push(Box::from(&place.name[..])),
            }
            at = up;
        }
        out.reverse();
        Ok(out)
    }
}
