//! A case from its layers to the last comparison.

use crate::container::IMAGE;
use crate::exec::Place;
use crate::layer::{self, Entry, Kind};
use crate::op::Step;
use crate::readonly;
use crate::tree::{self, Tree, What, differ};
use crate::verdict::{Counts, Trees};
use crate::world::{Mode, Mounts, Upper};
use rustix::fs::FileType;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Top first.
    pub layers: Vec<Vec<Entry>>,
    pub steps: Vec<Step>,
}

/// Trees are compared after so many steps at the latest.
const INTERVAL: usize = 5;

/// Runs a case in the directory of `mounts`, which is emptied.
pub fn run(case: &Case, mounts: &Mounts) -> Result<Counts, String> {
    mounts.clear();
    empty(&mounts.dir);
    let lowers: Vec<PathBuf> =
        (0..case.layers.len()).map(|i| mounts.dir.join(format!("l{i}"))).collect();
    for (path, entries) in lowers.iter().zip(&case.layers) {
        layer::make(path, entries, mounts.mode);
    }
    let (mut lowers, mut closed) = (lowers.clone(), lowers);
    let ours = if mounts.mode == Mode::Image {
        let container = mounts.container(&lowers)?;
        closed.extend(container.layers);
        // a layer of a store has names of marks, where it is mounted as a directory
        let init = mounts.dir.join("init");
        tree::copy(&container.init, &init);
        lowers.insert(0, init);
        container.upper
    } else {
        mounts.upper("ours")
    };
    let before: Vec<Tree> = closed.iter().map(|l| tree::look_exactly(l)).collect();
    let result = Run { case, mounts, lowers, ours }.all();
    mounts.clear();
    for (path, was) in closed.iter().zip(before) {
        if let Some(text) = differ(["before", "after"], &was, &tree::look_exactly(path), What::All)
        {
            let also = result.err().unwrap_or_default();
            return Err(format!("A LOWER LAYER WAS CHANGED: {}: {text}\n{also}", path.display()));
        }
    }
    result
}

fn empty(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // the work directories of the kernel are closed even to root of a name space
        let r = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        r.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

struct Run<'a> {
    case: &'a Case,
    mounts: &'a Mounts,
    lowers: Vec<PathBuf>,
    ours: Upper,
}

impl Run<'_> {
    fn all(&self) -> Result<Counts, String> {
        if self.mounts.mode == Mode::Image {
            self.image(&self.lowers[1..], IMAGE)?;
        }
        let (ours, kernel) = (self.ours.clone(), self.mounts.upper("kernel"));
        let (counts, last, alone, hidden) = self.steps(&ours, &kernel)?;
        if alone && self.mounts.mode.exchanges() {
            // the kernel was left behind where it departs from POSIX: the other upper is of then
            return Ok(counts);
        }
        self.nothing_left(&ours)?;
        let again = self.under_us(&self.lowers, Some(&ours))?;
        same("after a remount", ["before", "after"], &last, &again, self.kept())?;
        self.nothing_left(&ours)?;
        if self.mounts.switches.records {
            return Ok(counts);
        }
        let with = self.work(&ours, "ours-under-kernel");
        let shown = self.under_kernel(&self.lowers, Some(&with))?;
        expect("our upper under the kernel", ["stratafs", "kernel"], &again, &shown)?;
        let with = self.work(&kernel, "kernel-under-kernel");
        let mut theirs = self.under_kernel(&self.lowers, Some(&with))?;
        // it marks no directory as impure to which it links a copied-up file
        theirs.forgive_listings();
        let with = self.work(&kernel, "kernel-under-us");
        let shown = self.under_us(&self.lowers, Some(&with))?;
        let what = "the kernel's upper under us";
        // its index says how many names there are, but not of a file that we have copied up: which is
        // seen where a layer hides one of them
        let how = if self.mounts.mode.indexes() && !hidden { What::All } else { What::NoLinks };
        same(what, ["stratafs", "kernel"], &shown, &theirs, how)?;
        if self.mounts.mode.indexes() {
            // what a work directory says of hard links is lost to a layer
            return Ok(counts);
        }
        let mut stack = vec![ours.upper.clone()];
        stack.extend(self.lowers.iter().cloned());
        if self.mounts.mode == Mode::Image {
            // no layer holds sockets, and such names mean something else there
            if again.holds(tree::is_mark) {
                return Ok(counts);
            }
            self.mounts.import(&stack, "upper")?;
            let shown = self.image(&stack, "upper")?;
            let mut again = again;
            again.forget_sockets();
            expect("our upper as an image's layer", ["upper", "layer"], &again, &shown)?;
            return self.committed(&ours.upper).map(|()| counts);
        }
        let shown = self.under_us(&stack, None)?;
        expect("our upper as a layer", ["upper", "layer"], &again, &shown)?;
        readonly::compare(self.mounts, None, &stack, &self.case.steps)?;
        Ok(counts)
    }

    /// An image of the container, which has its upper, and not what lies between that and the image.
    fn committed(&self, upper: &Path) -> Result<(), String> {
        self.mounts.commit("committed")?;
        let mut shown = tree::look(&self.mounts.mount_image("committed")?);
        self.mounts.unmount_ours()?;
        shown.forgive_no_attributes();
        let mut stack = vec![upper.to_owned()];
        stack.extend(self.lowers[1..].iter().cloned());
        let mut asked = self.under_us(&stack, None)?;
        asked.forget_sockets();
        expect("the committed image", ["upper", "image"], &asked, &shown)
    }

    /// An image of layers, read-only, against the kernel's mount of them.
    fn image(&self, layers: &[PathBuf], name: &str) -> Result<Tree, String> {
        let mut ours = tree::look(&self.mounts.mount_image(name)?);
        self.mounts.unmount_ours()?;
        ours.forgive_no_attributes();
        let mut kernel = self.under_kernel(layers, None)?;
        let sockets = kernel.forget_sockets();
        expect(&format!("image {name}"), ["stratafs", "kernel"], &ours, &kernel)?;
        if !sockets {
            readonly::compare(self.mounts, Some(name), layers, &self.case.steps)?;
        }
        Ok(ours)
    }

    /// The steps. Returns our tree at their end, whether the kernel was left behind, and whether a layer
    /// hides a name of a hard-linked file.
    fn steps(
        &self,
        our_upper: &Upper,
        kernel_upper: &Upper,
    ) -> Result<(Counts, Tree, bool, bool), String> {
        let native = self.mounts.dir.join("native");
        let kernel = Place::new(self.mounts.kernel(&self.lowers, Some(kernel_upper), false)?);
        let ours = Place::new(self.mounts.ours(&self.lowers, Some(our_upper))?);
        tree::copy(&kernel.root, &native);
        let mut trees = Trees {
            ours,
            kernel: Some(kernel),
            native: Some(Place::new(native)),
            native_what: What::All,
            kernel_what: What::All,
            counts: Counts::default(),
        };
        let first = tree::look(&trees.ours.root);
        let copied = tree::look(&trees.native.as_ref().unwrap().root);
        if differ(["", ""], &first, &copied, What::All).is_some() {
            // files of which a layer above hides some names
            trees.native_what = What::NoLinks;
            if self.mounts.mode.namespace() {
                // where the kernel has no index
                trees.kernel_what = What::NoLinks;
            }
        }
        trees.compare().map_err(|e| format!("before the first step: {e}"))?;
        let middle = self.mounts.mode.exchanges().then_some(self.case.steps.len() / 2);
        let quarter = (self.case.steps.len() / 4).max(1);
        for (i, step) in self.case.steps.iter().enumerate() {
            if self.mounts.remounts && i > 0 && i % quarter == 0 {
                self.remount(&mut trees, our_upper).map_err(|e| format!("before step {i}, {e}"))?;
            }
            if Some(i) == middle && trees.kernel.is_some() {
                trees.compare().map_err(|e| format!("before the exchange: {e}"))?;
                // else the kernel was found wrong just now: its upper is not what we should show
                if trees.kernel.is_some() {
                    self.exchange(&mut trees, [our_upper, kernel_upper])?;
                    trees.compare().map_err(|e| format!("after the exchange: {e}"))?;
                }
            }
            let differed = trees.step(*step).map_err(|e| format!("step {i}, {step:?}:\n  {e}"))?;
            if differed || i % INTERVAL == INTERVAL - 1 {
                trees.compare().map_err(|e| format!("after step {i}, {step:?}: {e}"))?;
            }
        }
        let last = trees.compare().map_err(|e| format!("at the end: {e}"))?;
        close_all(&mut trees);
        let (counts, alone) = (trees.counts, trees.kernel.is_none());
        let hidden = trees.native_what == What::NoLinks;
        drop(trees);
        self.mounts.unmount_ours()?;
        self.mounts.unmount_kernel()?;
        Ok((counts, last, alone, hidden))
    }

    /// Each goes on with the other's upper and work directory.
    fn exchange(&self, trees: &mut Trees, [ours, kernel]: [&Upper; 2]) -> Result<(), String> {
        close_all(trees);
        let point = |name: &str| tree::look(&self.mounts.dir.join(name));
        let before = [point("ours-mount"), point("kernel-mount")];
        self.mounts.unmount_ours()?;
        self.mounts.unmount_kernel()?;
        self.nothing_left(ours)?;
        let after = [
            tree::look(&self.mounts.kernel(&self.lowers, Some(ours), false)?),
            tree::look(&self.mounts.ours(&self.lowers, Some(kernel))?),
        ];
        // of hard links the kernel believes its index alone, and we write none
        let hard = |e: &Entry| matches!(e.kind, Kind::Hard(_));
        let links = self.case.layers.iter().flatten().any(hard);
        let mut pairs = vec![("the kernel's under us", 1)];
        if !links {
            pairs.push(("our upper under the kernel", 0));
        }
        for (what, i) in pairs {
            if let Some(text) =
                tree::renumbered(&before[i], &after[i], |k| k != FileType::Directory)
            {
                return Err(format!("{what} has other numbers: {text}"));
            }
        }
        Ok(())
    }

    /// What stays over a remount. Marks of the user's name space can only be on files and directories.
    fn kept(&self) -> What {
        if self.mounts.mode.marks() == "user" { What::LinksOfFiles } else { What::All }
    }

    /// Ours is mounted anew, and shows what it showed, under the same numbers.
    fn remount(&self, trees: &mut Trees, upper: &Upper) -> Result<(), String> {
        close_all(trees);
        let before = trees.compare().map_err(|e| format!("before the remount: {e}"))?;
        self.mounts.unmount_ours()?;
        self.nothing_left(upper)?;
        self.mounts.ours(&self.lowers, Some(upper))?;
        let after = tree::look(&trees.ours.root);
        same("after the remount", ["before", "after"], &before, &after, self.kept())?;
        let counts = |kind| match kind {
            FileType::RegularFile => true,
            // what was moved by copying it is another one
            FileType::Directory => !self.mounts.switches.ours.contains("redirect_dir=copy"),
            // nor one to which a stand-in has been made
            _ => self.kept() == What::All && !self.mounts.switches.records,
        };
        if let Some(text) = tree::renumbered(&before, &after, counts) {
            return Err(format!("after the remount other numbers: {text}"));
        }
        trees.compare().map(drop).map_err(|e| format!("after the remount: {e}"))
    }

    fn under_us(&self, lowers: &[PathBuf], upper: Option<&Upper>) -> Result<Tree, String> {
        let tree = tree::look(&self.mounts.ours(lowers, upper)?);
        self.mounts.unmount_ours()?;
        Ok(tree)
    }

    fn under_kernel(&self, lowers: &[PathBuf], upper: Option<&Upper>) -> Result<Tree, String> {
        let tree = tree::look(&self.mounts.kernel(lowers, upper, true)?);
        self.mounts.unmount_kernel()?;
        Ok(tree)
    }

    /// An upper with its work directory, if that may hold an index, else with a fresh one.
    fn work(&self, upper: &Upper, name: &str) -> Upper {
        if self.mounts.mode.exchanges() {
            upper.clone()
        } else {
            self.mounts.with_work(&upper.upper, name)
        }
    }

    fn nothing_left(&self, upper: &Upper) -> Result<(), String> {
        let work = upper.work.join("work");
        let Ok(entries) = std::fs::read_dir(&work) else { return Ok(()) };
        // the kernel keeps the whiteout that its others are links to
        let theirs = |name: &OsString| {
            self.mounts.mode.exchanges() && name.as_encoded_bytes().starts_with(b"#")
        };
        let names = entries.map(|e| e.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| !theirs(name)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("left in the work directory: {left:?}")) }
    }
}

fn close_all(trees: &mut Trees) {
    for place in [Some(&mut trees.ours), trees.kernel.as_mut(), trees.native.as_mut()] {
        place.into_iter().for_each(Place::close_all);
    }
}

fn expect(what: &str, names: [&str; 2], a: &Tree, b: &Tree) -> Result<(), String> {
    same(what, names, a, b, What::NoLinks)
}

fn same(what: &str, names: [&str; 2], a: &Tree, b: &Tree, how: What) -> Result<(), String> {
    match differ(names, a, b, how) {
        None => Ok(()),
        Some(text) => Err(format!("{what}: {text}")),
    }
}
