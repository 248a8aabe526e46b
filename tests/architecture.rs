//! The arrows between the modules: who may know whom. Reads `crate::` paths in `src/`.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each module with those that it may name. `sys` names nothing of ours, and the engine neither
/// FUSE, nor the command line, nor the store.
const ALLOWED: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("name", &[]),
    ("bytes", &[]),
    ("semantics", &[]),
    ("reference", &["id"]),
    ("id", &["sys"]),
    ("resolve", &["id"]),
    ("marker", &["name", "sys"]),
    ("index", &["bytes", "marker", "name", "sys"]),
    ("snapshot", &["bytes", "name", "sys"]),
    ("index_cache", &["id", "name", "snapshot", "sys"]),
    ("overlay", &["id", "index", "marker", "name", "resolve", "snapshot", "sys"]),
    ("fuse", &["name", "overlay", "sys"]),
    ("inspect", &["id", "index", "marker", "name", "overlay", "resolve", "sys"]),
    ("unpack", &["id", "index", "marker", "name", "resolve", "sys"]),
    ("image", &["id", "marker", "name", "reference", "sys"]),
    ("store", &["id", "marker", "name", "reference", "sys"]),
    ("indexes", &["bytes", "id", "index", "name", "store", "sys", "unpack"]),
    ("import", &["id", "image", "index", "indexes", "name", "reference", "store", "sys", "unpack"]),
    (
        "commit",
        &[
            "id",
            "image",
            "import",
            "index",
            "indexes",
            "marker",
            "name",
            "overlay",
            "reference",
            "store",
            "sys",
            "unpack",
        ],
    ),
    (
        "cli",
        &[
            "commit",
            "fuse",
            "id",
            "image",
            "import",
            "index",
            "index_cache",
            "indexes",
            "inspect",
            "marker",
            "name",
            "overlay",
            "reference",
            "resolve",
            "snapshot",
            "store",
            "sys",
            "unpack",
        ],
    ),
];

/// Words that only the modules named may use.
const FENCED: &[(&str, &[&str])] = &[
    ("fuser::", &["fuse"]),
    ("libc::", &["sys"]),
    ("rustix::", &["sys"]),
    ("clap::", &["cli"]),
    ("unsafe {", &["sys"]),
    ("unsafe fn", &["sys"]),
    ("println!", &["cli", "main"]),
    ("eprintln!", &["cli", "main"]),
    ("std::env::var", &["cli"]),
];

/// Returns each source file with its module and its text, without tests and comments.
fn sources() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut out = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let inside = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let is_test = inside.contains("test");
            if path.is_dir() && !is_test {
                open.push(path);
            } else if inside.ends_with(".rs") && !is_test {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
                let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
                let code = lines.collect::<Vec<_>>().join("\n");
                let module = inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
                out.push((inside, module, code));
            }
        }
    }
    out
}

/// Returns the modules that a text names by `crate::`.
fn named(code: &str) -> BTreeSet<String> {
    let word =
        |t: &str| t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut out = BTreeSet::new();
    for (i, _) in code.match_indices("crate::") {
        let rest = &code[i + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in list.chars() {
                match c {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        out.insert(word(item.trim()));
                        item.clear();
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
            out.insert(word(item.trim()));
        } else {
            out.insert(word(rest));
        }
    }
    out.remove("");
    out
}

#[test]
fn the_arrows_between_modules_hold() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, module, code) in sources() {
        if module == "main" || module == "lib" {
            continue;
        }
        let Some(may) = allowed.get(module.as_str()) else {
            wrong.push(format!("{file}: module {module} is not in the table"));
            continue;
        };
        for other in named(&code) {
            if other != module && !may.contains(&other.as_str()) {
                wrong.push(format!("{file} names crate::{other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn fenced_words_stay_behind_their_fence() {
    let mut wrong = Vec::new();
    for (file, module, code) in sources() {
        for (word, places) in FENCED {
            if code.contains(word) && !places.contains(&module.as_str()) {
                wrong.push(format!("{file} uses {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// All Rust files below a directory of the project: path and text.
fn rust_files(dir: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dirs = vec![root.join(dir)];
    while let Some(dir) = dirs.pop() {
        for e in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if e.is_dir() {
                dirs.push(e);
            } else if e.extension().is_some_and(|x| x == "rs") {
                let name = e.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                out.push((name, std::fs::read_to_string(&e).unwrap()));
            }
        }
    }
    out
}

/// The tests that carry a statement of `src/semantics.rs`: `file::of::test`, `file::module`,
/// `tests/file.rs`, and the title of a case of the differential test after the word for it.
fn missing_tests(document: &str, files: &[(String, String)]) -> Vec<String> {
    let text: String =
        document.lines().map(|l| l.trim_start_matches("//!").to_owned() + " ").collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let has_fn = |path: &str, name: &str| {
        let function = format!("fn {name}(");
        files.iter().any(|(p, t)| t.contains(&function) && p.contains(path))
    };
    let mut missing = Vec::new();
    for word in text.split('`').skip(1).step_by(2) {
        let parts: Vec<&str> = word.split("::").collect();
        let is_path = parts.len() > 1
            && parts.iter().all(|p| {
                !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            });
        let found = if is_path {
            let place = parts[..parts.len() - 1].join("/");
            let module = format!("/{}.rs", parts.join("/"));
            has_fn(&place, parts[parts.len() - 1])
                || files.iter().any(|(p, _)| p.ends_with(&module))
                || files.iter().any(|(p, t)| {
                    p.contains(&place) && t.contains(&format!("mod {} ", parts[parts.len() - 1]))
                })
        } else if word.starts_with("tests/") {
            files.iter().any(|(p, _)| p == word || p.starts_with(&format!("{word}/")))
        } else {
            true
        };
        if !found {
            missing.push(word.to_owned());
        }
    }
    let cases = files.iter().find(|(p, _)| p == "tests/differential/cases.rs");
    for after in text.split("differential: ").skip(1) {
        let list = after.split(')').next().unwrap_or("");
        for title in list.split('"').skip(1).step_by(2) {
            if !cases.is_some_and(|(_, t)| t.contains(&format!("\"{title}\""))) {
                missing.push(title.to_owned());
            }
        }
    }
    missing
}

#[test]
fn every_test_that_the_semantics_name_exists() {
    let files = [rust_files("tests"), rust_files("src")].concat();
    let document = include_str!("../src/semantics.rs");
    assert_eq!(missing_tests(document, &files), [""; 0]);
    let wrong =
        "//! (`engine::no_such::test`, `tests/none.rs`) (differential: \"no such\n//! case\")";
    assert_eq!(
        missing_tests(wrong, &files),
        ["engine::no_such::test", "tests/none.rs", "no such case"]
    );
}

#[test]
fn this_test_reads_what_it_claims_to_read() {
    let all = sources();
    assert!(all.iter().any(|(_, m, c)| m == "overlay" && named(c).contains("resolve")));
    assert!(all.iter().any(|(_, m, c)| m == "sys" && c.contains("rustix::")));
    let modules: BTreeSet<&str> = all.iter().map(|(_, m, _)| m.as_str()).collect();
    for (m, _) in ALLOWED {
        assert!(modules.contains(m), "{m} is in the table and not in src/");
    }
    assert_eq!(
        named("use crate::{a::{b, c}, d};\nuse crate::e::F;"),
        ["a", "d", "e"].into_iter().map(str::to_owned).collect()
    );
}
