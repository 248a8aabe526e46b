//! Hard links to files of lower layers.

use super::*;

#[test]
fn a_link_to_a_lower_file_is_a_copy_of_it() {
    let b = layer(
        &[
            dir("d"),
            file("d/a", "content").mode(0o4751).owner(7, 8).mtime(99).xattr("user.k", "v"),
            hard("d/b", "d/a"),
            symlink("s", "d"),
        ],
        &[],
    )
    .unwrap();
    let middle = layer(&[marker("d/.wh.b"), dir("x")], &[&b]).unwrap();
    // two names, a link to one of these, a target's other name, and one that is replaced
    let entries = [
        hard("one", "d/a").mode(0o600).owner(1, 1),
        hard("two", "./one"),
        file("three", "old"),
        hard("three", "/d/a"),
        hard("gone", "d/a"),
        file("gone", "new"),
        marker("d/.wh.a"),
    ];
    let l = layer(&entries, &[&middle, &b]).unwrap();
    assert_eq!(l.paths(), ["d", "-d/a", "gone", "one", "three", "two"]);
    for name in ["one", "two", "three"] {
        let n = l.node(name);
        assert_eq!((n.mode, n.uid, n.gid, n.mtime.sec, n.size), (0o4751, 7, 8, 99, 7), "{name}");
        assert_eq!(l.index.canonical(n.id), l.index.canonical(l.node("one").id), "{name}");
        assert_eq!(l.index.xattrs(n.id).collect::<Vec<_>>(), [(&b"user.k"[..], &b"v"[..])]);
        assert_eq!(l.content(name), b"content", "{name}");
        let stat = l.diff.stat(name.as_bytes()).unwrap();
        assert_eq!((stat.nlink, stat.mtime.sec, stat.mode & 0o777), (3, 99, 0o751), "{name}");
    }
    assert_eq!(l.content("gone"), b"new");
    assert_eq!(l.size, 7 + 3, "the copy once, and the file");
    // two lower names of one file become one file again
    let l = layer(&[hard("p", "d/a"), hard("q", "d/b")], &[&b]).unwrap();
    assert_eq!(l.diff.stat(b"q").unwrap().ino, l.diff.stat(b"p").unwrap().ino);
    assert_eq!((l.index.canonical(l.node("q").id), l.size), (l.node("p").id, 7));
}

#[test]
fn a_link_to_nothing_of_the_lower_layers_is_refused() {
    for (entries, why) in [
        (&[hard("h", "none")][..], "refused entry h: a hard link to none, which neither"),
        (&[hard("h", "l/a")], "refused entry h: a hard link to l/a, which neither"),
        (&[hard("h", "d/sub")], "to the directory d/sub"),
        (&[hard("h", "l")], "no regular file"),
        (&[hard("h", "../f")], "refused entry h: "),
        (&[hard("h", ".wh.f")], "refused entry h: "),
        (&[hard("h", "none"), file("h", "")], "refused entry h: "),
    ] {
        assert!(refused(entries).contains(why), "{why}: {}", refused(entries));
    }
    let b = base();
    let hides =
        layer(&[marker(".wh.f"), marker("d/.wh..wh..opq"), file("d/n", "")], &[&b]).unwrap();
    for target in ["f", "d/a"] {
        assert!(layer(&[hard("h", target)], &[&hides, &b]).is_err(), "{target} is hidden");
    }
    assert!(layer(&[hard("h", "d/n")], &[&hides, &b]).is_ok());
}
