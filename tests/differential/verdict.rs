//! Who is right.

use crate::allow;
use crate::exec::Place;
use crate::op::{Act, Op, Step};
use crate::tree::{self, Tree, What};

/// What a whole case came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub steps: usize,
    /// Where stratafs did as the plain directory, and the kernel did not.
    pub better: usize,
    /// Cases in which the plain directory parted from both, and is no longer asked.
    pub parted: usize,
}

/// The three trees while operations go on.
pub struct Trees {
    pub ours: Place,
    /// Until it has parted from stratafs where stratafs was right.
    pub kernel: Option<Place>,
    /// Until it has parted from both.
    pub native: Option<Place>,
    /// How much is compared with the plain directory.
    pub native_what: What,
    /// How much is compared with the kernel's.
    pub kernel_what: What,
    pub counts: Counts,
}

impl Trees {
    /// Does a step everywhere. Returns whether results differed somewhere, so that the trees
    /// should be compared at once.
    pub fn step(&mut self, step: Step) -> Result<bool, String> {
        self.counts.steps += 1;
        let ours = self.ours.run(step);
        if allow::beyond_fuse(step, &ours) {
            if let Op::TmpFile { slot, .. } = step.1 {
                let close = Step(0, Op::Held { slot, act: Act::Close });
                [self.kernel.as_mut(), self.native.as_mut()].into_iter().flatten().for_each(|p| {
                    p.run(close);
                });
            }
            return Ok(false);
        }
        let kernel = self.kernel.as_mut().map(|k| k.run(step));
        let agreed = kernel.as_ref().is_none_or(|k| *k == ours);
        if agreed && allow::refused_by_overlays(step, &ours) {
            return Ok(false);
        }
        let native = self.native.as_mut().map(|n| n.run(step));
        match (kernel, native) {
            (Some(k), None) if k == ours => Ok(false),
            (Some(k), Some(n)) if k == ours => Ok(n != ours),
            (Some(_), Some(n)) if n == ours => {
                self.counts.better += 1;
                Ok(true)
            }
            (None, Some(n)) if n == ours => Ok(false),
            (None, Some(n)) if allow::nothing_to_remove(step, &ours, &n) => Ok(true),
            (k, n) => {
                // what is stated holds for the referee too, where the kernel is no longer asked
                let other = k.as_ref().or(n.as_ref()).cloned().unwrap_or_default();
                let (k, n) = (k.unwrap_or_else(|| "-".into()), n.unwrap_or_else(|| "-".into()));
                match allow::stated(&other, &ours, self.native_what == What::NoLinks) {
                    Some(_) => Ok(true),
                    None => Err(format!("stratafs: {ours}\n  kernel:   {k}\n  native:   {n}")),
                }
            }
        }
    }

    /// Compares the trees. Returns ours.
    pub fn compare(&mut self) -> Result<Tree, String> {
        let ours = tree::look(&self.ours.root);
        if let Some(ghost) = ours.ghosts.first() {
            return Err(format!("stratafs lists {}, but does not find it", ghost.display()));
        }
        let native = self.native.as_ref().map(|n| tree::look(&n.root));
        let parted = native
            .as_ref()
            .map(|n| tree::differ(["stratafs", "native"], &ours, n, self.native_what));
        if let Some(k) = &self.kernel {
            let kernel = tree::look(&k.root);
            match tree::differ(["stratafs", "kernel"], &ours, &kernel, self.kernel_what) {
                None => {
                    if let Some(Some(_)) = parted {
                        self.counts.parted += 1;
                        self.native = None;
                    }
                }
                Some(_) if parted == Some(None) => {
                    self.counts.better += 1;
                    self.kernel = None;
                }
                Some(text) => {
                    let native = parted.flatten().unwrap_or_else(|| "not asked".into());
                    return Err(format!("{text}\n  and native: {native}"));
                }
            }
        } else if let Some(Some(text)) = parted {
            return Err(text);
        }
        Ok(ours)
    }
}
