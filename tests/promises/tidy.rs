//! The rules of the house that a program can hold: floors import downward
//! only, files stay short enough to know one's way in them, and nothing is
//! called by a name that says nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Floors of the arithmetic, from the ground up.
const CORE_FLOORS: &[&[&str]] = &[&["model"], &["list", "weights"], &["plan"]];

/// Floors of the server, from the ground up; modules of one floor do not know
/// each other.
const SERVER_FLOORS: &[&[&str]] = &[
    &[
        "file",
        "certificate",
        "telemetry",
        "net",
        "subchannel",
        "wait",
    ],
    &["config"],
    &["rollout"],
    &["catalogue"],
    &["discovery", "health", "load", "state"],
    &["balance_load", "registration", "dns", "admin"],
    &["app"],
    &["cli"],
];

/// Within a floor, who may use whom: who serves a port or opens a connection waits, and
/// whoever does TLS reads its files and knows when they expire.
const SERVER_SIDEWAYS: &[(&str, &str)] = &[
    ("net", "wait"),
    ("net", "file"),
    ("net", "certificate"),
    ("subchannel", "wait"),
    ("subchannel", "file"),
    ("subchannel", "certificate"),
];

/// Floors of the simulation, from the ground up.
const SIMULATE_FLOORS: &[&[&str]] = &[
    &["exact", "random"],
    &["scenario", "parse"],
    &["hosts", "clients"],
    &["measure"],
    &["balancer", "bars", "seeds", "plot"],
    &["run"],
];

/// A scenario is read key by key; its bars are judged where figures are known.
const SIMULATE_SIDEWAYS: &[(&str, &str)] = &[
    ("random", "exact"),
    ("scenario", "parse"),
    ("parse", "scenario"),
    ("scenario", "bars"),
    ("parse", "bars"),
];

/// Floors of the client, from the ground up.
const CLIENT_FLOORS: &[&[&str]] = &[
    &[
        "target",
        "endpoint",
        "backoff",
        "tls",
        "service_config",
        "metrics",
        "error",
        "until",
    ],
    &["subchannel", "resolve"],
    &["policy"],
    &["grpclb"],
    &["control"],
    &["call", "state_watch"],
    &["channel", "builder"],
];

/// A channel is built by its builder, and says how to get one; a target says
/// what is wrong with it, and may be an endpoint.
const CLIENT_SIDEWAYS: &[(&str, &str)] = &[
    ("channel", "builder"),
    ("builder", "channel"),
    ("target", "endpoint"),
    ("metrics", "endpoint"),
    ("target", "error"),
];

/// Production lines a file may have without saying why in its first line.
const LONG: usize = 400;

/// Production lines no file may have.
const TOO_LONG: usize = 500;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "manager", "common", "misc",
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

/// Every Rust file below `folder`, but generated code.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "generated", ".build"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn crates() -> Vec<PathBuf> {
    let names = [
        "proto", "core", "simulate", "client", "backend", "server", "examples", "tests", "bench",
    ];
    names.iter().map(|name| root().join(name)).collect()
}

/// The text before the file's own tests.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Whether a whole file is tests.
fn is_tests(file: &Path) -> bool {
    let relative = file.strip_prefix(root()).unwrap();
    relative
        .iter()
        .any(|part| part == "tests.rs" || part == "tests")
}

/// First segments of every `crate::…` path in `text`, groups included.
fn crate_paths(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` and `other_crate::` are not ours.
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| -> String {
            let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
            text.trim_start().chars().take_while(is_word).collect()
        };
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = 0;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth > 0 => depth -= 1,
                    ',' | '}' if depth == 0 => {
                        modules.push(word(&group[start..i]));
                        start = i + 1;
                        if c == '}' {
                            break;
                        }
                    }
                    _ => {}
                }
            }
        } else {
            modules.push(word(rest));
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

fn floor_of(floors: &[&[&str]], module: &str) -> Option<usize> {
    floors.iter().position(|floor| floor.contains(&module))
}

fn floor_faults(src: &Path, floors: &[&[&str]], sideways: &[(&str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in rust_files(src) {
        let relative = file.strip_prefix(src).unwrap();
        let first = relative.components().next().unwrap();
        let own = first.as_os_str().to_string_lossy();
        let own = own.trim_end_matches(".rs");
        if ["lib", "main", "tests"].contains(&own) {
            continue;
        }
        let Some(floor) = floor_of(floors, own) else {
            faults.push(format!("{}: module `{own}` is on no floor", file.display()));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for used in crate_paths(production(&text)) {
            let Some(used_floor) = floor_of(floors, &used) else {
                continue;
            };
            let allowed =
                used == own || used_floor < floor || sideways.contains(&(own, used.as_str()));
            if !allowed {
                let file = file.display();
                faults.push(format!(
                    "{file}: `{own}` uses `{used}`, which is not below it"
                ));
            }
        }
    }
    faults
}

#[test]
fn core_floors_import_downward_only() {
    let faults = floor_faults(&root().join("core/src"), CORE_FLOORS, &[]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn server_floors_import_downward_only() {
    let faults = floor_faults(&root().join("server/src"), SERVER_FLOORS, SERVER_SIDEWAYS);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn simulate_floors_import_downward_only() {
    let src = root().join("simulate/src");
    let faults = floor_faults(&src, SIMULATE_FLOORS, SIMULATE_SIDEWAYS);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn client_floors_import_downward_only() {
    let faults = floor_faults(&root().join("client/src"), CLIENT_FLOORS, CLIENT_SIDEWAYS);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn arithmetic_has_no_clock_no_lock_and_no_task() {
    let mut faults = Vec::new();
    for folder in ["core/src", "simulate/src", "server/src/config"] {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let code = if is_tests(&file) {
                ""
            } else {
                production(&text)
            };
            for word in [
                "tokio::",
                "Mutex",
                "RwLock",
                "Instant",
                "SystemTime",
                "fastrand",
            ] {
                if code.contains(word) {
                    faults.push(format!("{}: {word}", file.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn client_and_proto_never_depend_on_the_server() {
    for name in ["proto", "client", "backend"] {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("lookaside-server"), "{name}");
        assert!(!manifest.contains("lookaside-core"), "{name}");
    }
}

#[test]
fn the_arithmetic_and_its_simulation_depend_on_no_runtime() {
    for name in ["core", "simulate"] {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let (_, dependencies) = manifest.split_once("[dependencies]").unwrap();
        let dependencies = dependencies.split("\n[").next().unwrap();
        for runtime in [
            "tokio", "hyper", "tonic", "tracing", "fastrand", "rand", "socket", "server",
        ] {
            assert!(!dependencies.contains(runtime), "{name}: {runtime}");
        }
    }
}

#[test]
fn files_are_short_or_say_why_not() {
    let mut faults = Vec::new();
    for file in crates().iter().flat_map(|folder| rust_files(folder)) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = production(&text).lines().count();
        let relative = file.strip_prefix(root()).unwrap();
        let tests = relative
            .iter()
            .any(|part| part == "tests.rs" || part == "tests");
        let excused = text
            .lines()
            .next()
            .is_some_and(|line| line.contains("long:"));
        if lines > TOO_LONG || (lines > LONG && !tests && !excused) {
            faults.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let mut faults = Vec::new();
    for file in crates().iter().flat_map(|folder| rust_files(folder)) {
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            faults.push(format!("{}: no `//!` on its first line", file.display()));
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if EMPTY_NAMES.contains(&name.as_str()) {
            faults.push(format!("{}: the name says nothing", file.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn crate_paths_are_found_in_groups_too() {
    let text = "use crate::{a::{b, c}, d};\nuse crate::e::f;\n// crate::g\n$crate::h; my_crate::i";
    assert_eq!(crate_paths(text), ["a", "d", "e"]);
}
