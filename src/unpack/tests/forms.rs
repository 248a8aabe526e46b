//! Compression, damaged ends, and the split file.

use super::*;

#[test]
fn every_compression_gives_the_same_layer() {
    let plain = tar(&[file("f", "data".repeat(1000)), file("g", "more".repeat(100_000))]);
    let gz = |d: &[u8]| {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(d).unwrap();
        e.finish().unwrap()
    };
    let zst = |d: &[u8]| zstd::encode_all(d, 1).unwrap();
    let skip = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
    let (a, b) = plain.split_at(3000);
    for blob in [
        plain.clone(),
        gz(&plain),
        [gz(a), gz(b)].concat(),
        zst(&plain),
        [&skip[..], &zst(a), skip, &zst(b), skip].concat(),
    ] {
        let limits = Limits::default();
        unpack_blob(&blob, Some(&plain), &[], ordinary(), &limits).unwrap();
        // half a blob is no layer, whatever the form
        let half = &blob[..blob.len() * 2 / 3];
        assert!(unpack_blob(half, None, &[], ordinary(), &limits).is_err());
    }
    for (blob, name) in [(&b"\xfd7zXZ\0.."[..], "xz"), (b"BZh91AY", "bzip2")] {
        let e = unpack_blob(blob, None, &[], ordinary(), &Limits::default()).err().unwrap();
        assert!(e.to_string().contains(name));
    }
}

#[test]
fn the_end_may_be_missing_or_followed_by_junk() {
    let body = file("f", "x").bytes();
    let long_end = [&body[..], &[0; 1024], &[0x5a; 3_000_001]].concat();
    for plain in
        [Vec::new(), body.clone(), body[..513].to_vec(), [&body[..], &[0; 512]].concat(), long_end]
    {
        unpack_blob(&plain, Some(&plain), &[], ordinary(), &Limits::default()).unwrap();
    }
    for cut in [100, 511, 512] {
        let e = unpack_blob(&body[..cut], None, &[], ordinary(), &Limits::default());
        assert!(matches!(e, Err(UnpackError::Truncated(_))), "{cut}");
    }
    let mut broken = tar(&[file("f", "x"), file("g", "y")]);
    broken[1024] ^= 1;
    let e = unpack_blob(&broken, None, &[], ordinary(), &Limits::default()).err().unwrap();
    assert!(e.to_string().contains("byte 1024") && e.to_string().ends_with("after f"), "{e}");
}

#[test]
fn the_split_file_has_the_form_that_docker_reads() {
    let l = layer(&[file("b/new", "n"), file(b"\xff", "x"), marker(".wh.gone")], &[]).unwrap();
    let gz = l.meta.open_file(SPLIT_NAME, OpenFlags::READ, 0).unwrap().into_std();
    let mut text = String::new();
    flate2::read::GzDecoder::new(gz).read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with(r#"{"type":2,"payload":""#) && lines[0].ends_with(r#","position":0}"#)
    );
    // CRC-64 ISO of "n", big-endian
    assert_eq!(
        lines[1],
        r#"{"type":1,"name":"b/new","size":1,"payload":"PbAAAAAAAAA=","position":1}"#
    );
    assert!(lines[3].starts_with(r#"{"type":1,"name_raw":"/w==","size":1,"#));
    assert_eq!(lines[5], r#"{"type":1,"name":".wh.gone","payload":null,"position":5}"#);
}

/// A stream in memory, handed out in small pieces.
struct Pieces<'t>(&'t [u8]);

impl Feed for Pieces<'_> {
    fn chunk(&mut self, max: usize) -> Result<&[u8], UnpackError> {
        let (now, later) = self.0.split_at(self.0.len().min(max).min(700));
        self.0 = later;
        Ok(now)
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        changes in proptest::collection::vec((0..9000usize, proptest::num::u8::ANY), 0..12),
        fix in proptest::bool::ANY,
        cut in 0..9000usize,
    ) {
        let mut t = tar(&[
            dir("d").xattr("user.a", "b"),
            file("d/f", "x".repeat(600)).pax("mtime", "-1.5"),
            file("s", "1\n0\n1\n").pax("GNU.sparse.major", "1").pax("GNU.sparse.realsize", "9"),
            hard("h", "d/f"),
            marker("d/.wh.x"),
            other("S", b'S', (0, 0)),
            other("L", b'L', (0, 0)),
            file("d/f", ""),
        ]);
        for (at, to) in changes {
            let at = at % t.len();
            t[at] = to;
            let block = at / 512 * 512;
            if fix {
                t[block + 148..block + 156].fill(b' ');
                let sum: u32 = t[block..block + 512].iter().map(|b| u32::from(*b)).sum();
                let text = format!("{sum:06o}\0 ");
                t[block + 148..block + 156].copy_from_slice(text.as_bytes());
            }
        }
        t.truncate(t.len().min(cut + 512));
        let limits = Limits { entries: 1000, ..Limits::default() };
        let mut tree = Tree::new(None, &limits);
        let mut walker = Walker::new(Pieces(&t), None, &limits);
        if tree.read(&mut walker).is_ok() {
            settle::settle(&mut tree.b, &tree.ghosts, &[]).unwrap();
        }
    }
}
