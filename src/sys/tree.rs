//! Removal of whole trees.

use super::{Dir, Errno, RenameFlags, Result};

/// How many directories below another [`Dir::remove_tree`] opens at a time.
const CLEAR_DEPTH: u32 = 32;

impl Dir {
    /// Removes `name` and everything below it. A missing name is no error.
    ///
    /// However deep the tree is, only a few directories are open at a time: what is far down is
    /// first moved up to `name`. An error may leave a tree of another shape.
    pub fn remove_tree(&self, name: &[u8]) -> Result<()> {
        match self.unlink(name) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e),
        }
        match self.rmdir(name) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        let mode = self.stat(name)?.permissions();
        let top = self.open_to_clear(name)?;
        loop {
            match self.rmdir(name) {
                Ok(()) | Err(Errno::NOENT) => break,
                Err(Errno::NOTEMPTY | Errno::EXIST) => top.clear(&top, 0)?,
                Err(e) => return Err(e),
            }
        }
        // somebody may hold it still, and look
        if top.stat_self()?.permissions() != mode {
            top.chmod_self(mode)?;
        }
        Ok(())
    }

    /// Removes everything in this directory, or moves it to `top`.
    fn clear(&self, top: &Dir, depth: u32) -> Result<()> {
        for e in self.list()? {
            match self.unlink(&e.name) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(e) => return Err(e),
            }
            let sub = self.open_to_clear(&e.name)?;
            if depth < CLEAR_DEPTH {
                sub.clear(top, depth + 1)?;
                self.rmdir(&e.name)?;
            } else {
                let up = format!(".up-{:016x}", u64::from_ne_bytes(super::random_bytes()));
                self.rename(&e.name, top, up.as_bytes(), RenameFlags::Replace)?;
            }
        }
        Ok(())
    }

    /// Opens a directory whose names are to be removed.
    fn open_to_clear(&self, name: &[u8]) -> Result<Dir> {
        let sub = match self.open_dir(name) {
            // a directory of our own without permission bits is still ours to remove
            Err(Errno::ACCESS) => {
                self.node(name)?.chmod(0o700)?;
                self.open_dir(name)?
            }
            r => r?,
        };
        let mode = sub.stat_self()?.mode;
        if mode & 0o700 != 0o700 {
            sub.as_node()?.chmod(mode | 0o700)?;
        }
        Ok(sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remove_tree_takes_closed_directories_too() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        d.mkdir(b"a", 0o755).unwrap();
        let a = d.open_dir(b"a").unwrap();
        a.mkdir(b"b", 0o755).unwrap();
        a.open_dir(b"b").unwrap().symlink(b"x", b"l").unwrap();
        a.node(b"b").unwrap().chmod(0).unwrap();
        d.remove_tree(b"a").unwrap();
        d.remove_tree(b"a").unwrap();
        assert!(d.is_empty().unwrap());
    }

    #[test]
    fn remove_tree_has_no_limit_of_depth() {
        let tmp = tempfile::tempdir().unwrap();
        let d = Dir::open(tmp.path()).unwrap();
        d.mkdir(b"a", 0o755).unwrap();
        let mut at = d.open_dir(b"a").unwrap();
        for i in 0..5000 {
            at.mkdir(b"d", 0o755).unwrap();
            at.symlink(b"x", b"l").unwrap();
            let next = at.open_dir(b"d").unwrap();
            if i % 100 == 0 {
                at.as_node().unwrap().chmod(0).unwrap();
            }
            at = next;
        }
        d.remove_tree(b"a").unwrap();
        assert!(d.is_empty().unwrap());
    }
}
