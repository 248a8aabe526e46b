//! Random operations on random layers, against a model that is nothing but a map.
//!
//! Names come from a tiny alphabet so that operations collide. After the operations the trees
//! must be equal, again after opening the directories anew, and the lowers untouched.

use crate::support::{Form, Layers, View, without_links};
use proptest::prelude::*;
use std::collections::BTreeMap;
use stratafs::overlay::RenameMode;
use stratafs::sys::Errno;

#[derive(Clone, Debug, PartialEq)]
enum Node {
    File(Vec<u8>, u32),
    Symlink(String),
    Dir(BTreeMap<String, usize>, u32),
}

/// A tree of inodes; several names may lead to one file.
#[derive(Clone, Debug)]
struct Model {
    nodes: Vec<Node>,
}

type Fallible<T> = Result<T, Errno>;

impl Model {
    fn new() -> Model {
        Model { nodes: vec![Node::Dir(BTreeMap::new(), 0o755)] }
    }

    fn find(&self, path: &str) -> Fallible<usize> {
        let mut at = 0;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            match &self.nodes[at] {
                Node::Dir(kids, _) => at = *kids.get(part).ok_or(Errno::NOENT)?,
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }

    fn kids(&mut self, dir: usize) -> Fallible<&mut BTreeMap<String, usize>> {
        match &mut self.nodes[dir] {
            Node::Dir(kids, _) => Ok(kids),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn add(&mut self, path: &str, node: Node) -> Fallible<()> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.find(dir)?;
        let id = self.nodes.len();
        let kids = self.kids(dir)?;
        if kids.contains_key(name) {
            return Err(Errno::EXIST);
        }
        kids.insert(name.to_owned(), id);
        self.nodes.push(node);
        Ok(())
    }

    fn links(&self, id: usize) -> usize {
        let kids = self.nodes.iter().enumerate().filter(|(i, _)| self.alive(*i));
        kids.map(|(_, n)| match n {
            Node::Dir(k, _) => k.values().filter(|v| **v == id).count(),
            _ => 0,
        })
        .sum()
    }

    fn alive(&self, dir: usize) -> bool {
        fn below(m: &Model, at: usize, want: usize) -> bool {
            at == want
                || matches!(&m.nodes[at], Node::Dir(k, _) if k.values().any(|c| below(m, *c, want)))
        }
        below(self, 0, dir)
    }

    fn tree(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        self.tree_below(0, "", &mut out);
        out
    }

    fn tree_below(&self, at: usize, path: &str, out: &mut BTreeMap<String, String>) {
        let Node::Dir(kids, _) = &self.nodes[at] else { return };
        for (name, id) in kids {
            let p = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let line = match &self.nodes[*id] {
                Node::Dir(_, mode) => format!("Dir {mode:o} "),
                Node::File(data, mode) => {
                    let text = String::from_utf8(data.clone()).unwrap();
                    format!("File {mode:o} {} {text:?}", self.links(*id))
                }
                Node::Symlink(t) => format!("Symlink 777 {t}"),
            };
            out.insert(p.clone(), line);
            self.tree_below(*id, &p, out);
        }
    }

    fn apply(&mut self, op: &Op) -> Fallible<()> {
        match op {
            Op::Write(p, data) => match self.find(p) {
                Ok(id) => match &mut self.nodes[id] {
                    Node::File(d, _) => {
                        *d = data.clone();
                        Ok(())
                    }
                    Node::Dir(..) => Err(Errno::ISDIR),
                    Node::Symlink(_) => Err(Errno::INVAL),
                },
                Err(Errno::NOENT) => self.add(p, Node::File(data.clone(), 0o644)),
                Err(e) => Err(e),
            },
            Op::Append(p, data) => {
                let id = self.find(p)?;
                match &mut self.nodes[id] {
                    Node::File(d, _) => {
                        d.extend_from_slice(data);
                        Ok(())
                    }
                    Node::Dir(..) => Err(Errno::ISDIR),
                    Node::Symlink(_) => Err(Errno::INVAL),
                }
            }
            Op::Mkdir(p) => self.add(p, Node::Dir(BTreeMap::new(), 0o755)),
            Op::Symlink(p) => self.add(p, Node::Symlink("t".into())),
            Op::Chmod(p, mode) => {
                let id = self.find(p)?;
                match &mut self.nodes[id] {
                    Node::File(_, m) | Node::Dir(_, m) => *m = *mode,
                    Node::Symlink(_) => return Err(Errno::OPNOTSUPP),
                }
                Ok(())
            }
            Op::Remove(p) => self.remove(p),
            Op::Link(a, b) => {
                let id = self.find(a)?;
                let (dir, name) = b.rsplit_once('/').unwrap_or(("", b));
                let dir = self.find(dir)?;
                if matches!(self.nodes[id], Node::Dir(..)) {
                    return Err(Errno::PERM);
                }
                let kids = self.kids(dir)?;
                if kids.contains_key(name) {
                    return Err(Errno::EXIST);
                }
                kids.insert(name.to_owned(), id);
                Ok(())
            }
            Op::Rename(a, b, exchange) => self.rename(a, b, *exchange),
            Op::Reopen => Ok(()),
        }
    }

    fn remove(&mut self, p: &str) -> Fallible<()> {
        let id = self.find(p)?;
        if matches!(&self.nodes[id], Node::Dir(k, _) if !k.is_empty()) {
            return Err(Errno::NOTEMPTY);
        }
        let (dir, name) = p.rsplit_once('/').unwrap_or(("", p));
        let dir = self.find(dir)?;
        self.kids(dir)?.remove(name);
        Ok(())
    }

    fn rename(&mut self, a: &str, b: &str, exchange: bool) -> Fallible<()> {
        let ((ad, an), (bd, bn)) =
            (a.rsplit_once('/').unwrap_or(("", a)), b.rsplit_once('/').unwrap_or(("", b)));
        let (ad, bd) = (self.find(ad)?, self.find(bd)?);
        self.kids(bd)?;
        let source = *self.kids(ad)?.get(an).ok_or(Errno::NOENT)?;
        let target = self.kids(bd)?.get(bn).copied();
        let is_dir = |m: &Model, id: usize| matches!(m.nodes[id], Node::Dir(..));
        if target == Some(source) {
            return Ok(());
        }
        if target.is_none() && exchange {
            return Err(Errno::NOENT);
        }
        if is_dir(self, source) && format!("{b}/").starts_with(&format!("{a}/")) {
            return Err(Errno::INVAL);
        }
        match target {
            Some(t) if exchange => {
                if is_dir(self, t) && format!("{a}/").starts_with(&format!("{b}/")) {
                    return Err(Errno::INVAL);
                }
                self.kids(ad)?.insert(an.to_owned(), t);
            }
            Some(t) => {
                if is_dir(self, t) && format!("{a}/").starts_with(&format!("{b}/")) {
                    return Err(Errno::NOTEMPTY);
                }
                match (is_dir(self, source), is_dir(self, t)) {
                    (true, false) => return Err(Errno::NOTDIR),
                    (false, true) => return Err(Errno::ISDIR),
                    (true, true) if !self.kids(t)?.is_empty() => return Err(Errno::NOTEMPTY),
                    _ => {}
                }
                self.kids(ad)?.remove(an);
            }
            None => {
                self.kids(ad)?.remove(an);
            }
        }
        self.kids(bd)?.insert(bn.to_owned(), source);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(String, Vec<u8>),
    Append(String, Vec<u8>),
    Mkdir(String),
    Symlink(String),
    Chmod(String, u32),
    Remove(String),
    Link(String, String),
    Rename(String, String, bool),
    Reopen,
}

fn run(v: &View, op: &Op) -> Fallible<()> {
    let r = match op {
        Op::Write(p, d) => v.write(p, d),
        Op::Append(p, d) => v.append(p, d),
        Op::Mkdir(p) => v.mkdir(p).map(drop),
        Op::Symlink(p) => v.symlink("t", p).map(drop),
        Op::Chmod(p, m) => v.chmod(p, *m).map(drop),
        Op::Remove(p) => match v.stat(p) {
            Ok(a) if a.kind == stratafs::sys::FileType::Dir => v.rmdir(p),
            Ok(_) => v.unlink(p),
            Err(e) => Err(e),
        },
        Op::Link(a, b) => v.link(a, b).map(drop),
        Op::Rename(a, b, x) => {
            v.rename(a, b, if *x { RenameMode::Exchange } else { RenameMode::Replace })
        }
        Op::Reopen => Ok(()),
    };
    r.map_err(|e| e.errno())
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..=3)
        .prop_map(|p| p.join("/"))
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(b'a'..=b'z', 0..6)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), data()).prop_map(|(p, d)| Op::Write(p, d)),
        3 => (path(), data()).prop_map(|(p, d)| Op::Append(p, d)),
        3 => path().prop_map(Op::Mkdir),
        1 => path().prop_map(Op::Symlink),
        2 => (path(), prop::sample::select(vec![0o600, 0o755, 0o4711])).prop_map(|(p, m)| Op::Chmod(p, m)),
        5 => path().prop_map(Op::Remove),
        2 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        6 => (path(), path(), any::<bool>()).prop_map(|(a, b, x)| Op::Rename(a, b, x)),
        1 => Just(Op::Reopen),
    ]
}

/// One entry of a random layer.
#[derive(Clone, Debug)]
enum Entry {
    File,
    Dir,
    Opaque,
    Whiteout,
    Symlink,
    Link(String),
}

fn entry() -> impl Strategy<Value = (String, Entry)> {
    let kind = prop_oneof![
        4 => Just(Entry::File),
        5 => Just(Entry::Dir),
        1 => Just(Entry::Opaque),
        2 => Just(Entry::Whiteout),
        1 => Just(Entry::Symlink),
        1 => path().prop_map(Entry::Link),
    ];
    (path(), kind)
}

/// Makes a layer's lines out of random entries (those that fit), and applies it to the model.
fn layer(entries: &[(String, Entry)], number: usize, model: &mut Model) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    let mut dirs = vec![String::new()];
    let mut sorted: Vec<_> = entries.to_vec();
    sorted.sort_by_key(|(p, _)| p.matches('/').count());
    for (p, e) in &sorted {
        let (dir, name) = p.rsplit_once('/').unwrap_or(("", p));
        if !dirs.contains(&dir.to_owned()) || made.contains_key(p) || dirs.contains(p) {
            continue;
        }
        let Ok(parent) = model.find(dir) else { continue };
        let below = model.find(p).ok();
        let content = format!("{number}:{p}");
        let node = match e {
            Entry::File => {
                lines.push(format!("f {p} {content}"));
                Node::File(content.into_bytes(), 0o644)
            }
            Entry::Symlink => {
                lines.push(format!("l {p} t"));
                Node::Symlink("t".into())
            }
            Entry::Whiteout => {
                // where nothing is hidden there is none (the importer drops those too)
                if below.is_some() {
                    lines.push(format!("w {p}"));
                    model.kids(parent).unwrap().remove(name);
                    made.insert(p.clone(), usize::MAX);
                }
                continue;
            }
            Entry::Link(target) => {
                let Some(id) = made.get(target).copied().filter(|i| *i != usize::MAX) else {
                    continue;
                };
                lines.push(format!("h {p} {target}"));
                model.kids(parent).unwrap().insert(name.to_owned(), id);
                made.insert(p.clone(), id);
                continue;
            }
            Entry::Dir | Entry::Opaque => {
                let opaque = matches!(e, Entry::Opaque);
                lines.push(format!("{} {p}", if opaque { "o" } else { "d" }));
                dirs.push(p.clone());
                let merges = below.filter(|b| !opaque && matches!(model.nodes[*b], Node::Dir(..)));
                match merges {
                    Some(id) => {
                        if let Node::Dir(_, mode) = &mut model.nodes[id] {
                            *mode = 0o755;
                        }
                        continue;
                    }
                    None => Node::Dir(BTreeMap::new(), 0o755),
                }
            }
        };
        let id = model.nodes.len();
        let is_dir = matches!(node, Node::Dir(..));
        model.nodes.push(node);
        model.kids(parent).unwrap().insert(name.to_owned(), id);
        if !is_dir {
            made.insert(p.clone(), id);
        }
    }
    lines
}

fn check(layers: &[Vec<(String, Entry)>], ops: &[Op], form: Form) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    let mut lines: Vec<Vec<String>> = Vec::new();
    for (i, l) in layers.iter().enumerate() {
        lines.push(layer(l, i, &mut model));
    }
    lines.reverse();
    let borrowed: Vec<Vec<&str>> =
        lines.iter().map(|l| l.iter().map(String::as_str).collect()).collect();
    let slices: Vec<&[&str]> = borrowed.iter().map(Vec::as_slice).collect();
    let disk = Layers::new(&slices);
    let mut view = disk.open(form);
    // names hidden by other layers still count as links of a lower file: compare without them
    let plain = without_links;
    prop_assert_eq!(plain(view.tree()), plain(model.tree()), "layers {:#?}", lines);
    for (i, op) in ops.iter().enumerate() {
        if matches!(op, Op::Reopen) {
            drop(view);
            view = disk.open(form);
        }
        let expected = model.clone().apply(op);
        let got = run(&view, op);
        prop_assert_eq!(&got, &expected, "operation {} {:?}\nlayers {:#?}", i, op, lines);
        if expected.is_ok() {
            model.apply(op).unwrap();
        }
        prop_assert_eq!(
            plain(view.tree()),
            plain(model.tree()),
            "after {} {:?}\nlayers {:#?}",
            i,
            op,
            lines
        );
    }
    view.fs.sync().unwrap();
    drop(view);
    disk.check_work_empty();
    let again = disk.open(form);
    prop_assert_eq!(
        plain(again.tree()),
        plain(model.tree()),
        "after reopening\nlayers {:#?}",
        lines
    );
    disk.check_untouched();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_match_the_model_on_indexed_layers(
        layers in prop::collection::vec(prop::collection::vec(entry(), 0..10), 1..4),
        ops in prop::collection::vec(op(), 1..25),
    ) {
        check(&layers, &ops, Form::Indexed)?;
    }

    #[test]
    fn random_operations_match_the_model_on_plain_layers(
        layers in prop::collection::vec(prop::collection::vec(entry(), 0..10), 1..4),
        ops in prop::collection::vec(op(), 1..25),
    ) {
        check(&layers, &ops, Form::Plain)?;
    }
    #[test]
    fn random_operations_match_the_model_on_known_layers(
        layers in prop::collection::vec(prop::collection::vec(entry(), 0..10), 1..4),
        ops in prop::collection::vec(op(), 1..25),
    ) {
        check(&layers, &ops, Form::Known)?;
    }
}
