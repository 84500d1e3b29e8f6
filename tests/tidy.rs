//! House rules that can be read off the text: imports point down the layers, files stay short, no leftovers.
//!
//! A rule that stops you with a good reason gets an exception in the lists below, with that reason beside it.

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down; a room imports only from lines below its own. Rooms on one line never import each other.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["gateway"],
    &["config"],
    &["smtp", "pull", "admin"],
    &["intake", "filing", "outbox", "desk"],
    &["relay"],
    &["accounts"],
    &["store"],
    &["net"],
    &["ticket"],
    &["mail"],
    &["clock", "shutdown", "metrics", "units", "files", "logging", "memory"],
];

/// The exceptions to the layers: (room, what it imports, why).
const LAYER_EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Files may have this many lines, tests at their end not counted.
const MAX_LINES: usize = 400;

/// The exceptions to the length: (file under src, why).
const LENGTH_EXCEPTIONS: &[(&str, &str)] = &[];

/// What has no place in code that runs in production, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("todo!(", "unfinished code does not get in"),
    ("unimplemented!(", "unfinished code does not get in"),
    ("dbg!(", "use tracing"),
    (".unwrap()", "return an error, or expect() with the reason why it cannot fail"),
    ("println!(", "only the command line prints; rooms log with tracing"),
    ("#[ignore", "a test runs or does not exist"),
    ("macro_rules!", "no macros of our own"),
];

/// Rooms that may do what the rule says others may not: (pattern, room).
const MAY: &[(&str, &str)] = &[("println!(", "cli"), ("println!(", "main")];

/// What only some rooms may name: (pattern, the rooms, why).
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("sled::", &["store"], "only the store knows the engine"),
    ("mail_parser::", &["mail"], "what a parsed mail is, mail says"),
    ("mail_builder::", &["mail"], "how mail of ours is written, mail says"),
    ("pulldown_cmark::", &["mail"], "how mail of ours is written, mail says"),
    ("smtp_proto::", &["smtp", "relay"], "protocol code stays at its door"),
    ("axum::", &["admin"], "HTTP stays at the admin socket"),
    ("anyhow::", &["main"], "a room has an error of its own"),
    ("async_imap::", &["pull"], "IMAP stays at its door"),
    ("mail_send::", &["relay", "cli"], "how mail leaves, relay says; the demo is a customer with a program of its own"),
    ("chacha20poly1305::", &["store"], "secrets at rest are the store's"),
    ("oauth2::", &["net"], "the protocol of grants is net's"),
    ("reqwest::", &[], "HTTP requests of ours go through net/http.rs"),
    ("rustls_platform_verifier::", &["net"], "which servers to believe, net says"),
];

/// What pure rooms have no use for: they are handed values and the time, and give values back.
const NOT_IN_PURE: &[&str] = &["tokio::", "async fn", "std::fs", "std::net::Tcp", "serde", ".now()", "Instant"];
const PURE: &[&str] = &["mail", "ticket"];

struct Source {
    /// Path below src, with forward slashes.
    name: String,
    text: String,
}

impl Source {
    /// The room that a file belongs to: its first folder, or its own name.
    fn room(&self) -> &str {
        let first = self.name.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// A file of tests only, named by `#[cfg(test)] mod tests;` in its parent.
    fn is_test(&self) -> bool {
        self.name.ends_with("/tests.rs") || self.name.contains("/tests/") || self.name.ends_with("_tests.rs")
    }

    /// The lines before an inline test module, numbered from 1. Where a module of tests is only named, what stands
    /// behind its name counts.
    fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.is_test();
        let lines = self.text.lines().enumerate().map(|(n, line)| (n + 1, line));
        let behind = self.text.lines().skip(1).chain([""]);
        let ends = |line: &str, next: &str| line == "#[cfg(test)]" && next.contains("mod ") && next.ends_with('{');
        lines.zip(behind).take_while(move |((_, line), next)| !all && !ends(line, next)).map(|(line, _)| line)
    }
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .expect("src is readable")
            .map(|entry| entry.expect("an entry of src").path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).expect("below src").to_string_lossy().replace('\\', "/");
                found.push(Source { name, text: fs::read_to_string(&path).expect("source is UTF-8") });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(!found.is_empty(), "no sources under {}", root.display());
    found
}

fn layer_of(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms that a piece of text names through `crate::…`, groups like `crate::{mail::Id, store}` included.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(group_heads(group)),
            None => rooms.push(identifier(rest)),
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

/// The first name of each item of a `{…}` group, whose opening brace is already read.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0usize;
    let mut item = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(identifier(std::mem::take(&mut item).trim())),
            c if depth == 0 => item.push(c),
            _ => {}
        }
    }
    heads.push(identifier(item.trim()));
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The text without its comments, so that documentation may point anywhere.
fn without_comments(source: &Source) -> String {
    let lines: Vec<&str> =
        source.production_lines().map(|(_, line)| line.split("//").next().unwrap_or_default()).collect();
    lines.join("\n")
}

fn fail_on(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn imports_point_down_the_layers() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.name != "lib.rs") {
        let room = source.room();
        let Some(own) = layer_of(room) else {
            faults.push(format!("src/{}: room `{room}` is in no layer; add it to LAYERS", source.name));
            continue;
        };
        for target in imports(&without_comments(source)) {
            let excepted = LAYER_EXCEPTIONS.iter().any(|(from, to, _)| *from == room && *to == target);
            if target == room || excepted {
                continue;
            }
            match layer_of(&target) {
                Some(layer) if layer > own => {}
                Some(_) => faults.push(format!("src/{}: `{room}` must not know `{target}`", source.name)),
                None => faults.push(format!("src/{}: `crate::{target}` is in no layer", source.name)),
            }
        }
    }
    fail_on(faults);
}

#[test]
fn files_are_short() {
    let faults = sources().into_iter().filter_map(|source| {
        let lines = source.production_lines().count();
        let excepted = LENGTH_EXCEPTIONS.iter().any(|(name, _)| *name == source.name);
        (lines > MAX_LINES && !excepted)
            .then(|| format!("src/{}: {lines} lines, {MAX_LINES} allowed; split it by what it does", source.name))
    });
    fail_on(faults.collect());
}

#[test]
fn every_file_says_what_it_owns() {
    let faults = sources().into_iter().filter(|s| !s.text.starts_with("//!") && !s.is_test());
    fail_on(
        faults
            .map(|s| format!("src/{}: begin with //! and say what this file owns and must not know", s.name))
            .collect(),
    );
}

#[test]
fn nothing_is_left_over() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.production_lines() {
            let code = line.split("//").next().unwrap_or_default();
            for (pattern, why) in FORBIDDEN {
                if code.contains(pattern) && !MAY.contains(&(*pattern, source.room())) {
                    faults.push(format!("src/{}:{number}: `{pattern}` {why}", source.name));
                }
            }
        }
    }
    fail_on(faults);
}

#[test]
fn rooms_know_only_what_is_theirs() {
    let mut faults = Vec::new();
    for source in sources() {
        let text = without_comments(&source);
        for (pattern, rooms, why) in ONLY_IN {
            if text.contains(pattern) && !rooms.contains(&source.room()) {
                faults.push(format!("src/{}: `{pattern}` {why}", source.name));
            }
        }
        for pattern in NOT_IN_PURE.iter().filter(|pattern| PURE.contains(&source.room()) && text.contains(**pattern)) {
            faults.push(format!("src/{}: `{pattern}` has no place in a pure room", source.name));
        }
    }
    fail_on(faults);
}

#[test]
fn imports_are_found_in_groups_and_paths() {
    let table: &[(&str, &[&str])] = &[
        ("use crate::mail::Address;", &["mail"]),
        ("use crate::{clock::Clock, mail::{Address, MailId}, store};", &["clock", "mail", "store"]),
        ("let x = crate::ticket::decide(facts);", &["ticket"]),
        ("use std::io;", &[]),
    ];
    for (text, expected) in table {
        assert_eq!(imports(text), *expected, "{text}");
    }
}
