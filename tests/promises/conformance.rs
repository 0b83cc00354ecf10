//! `client/CONFORMANCE.md` says which test keeps which promise of gRPC's own
//! clients. This keeps it from rotting: every row has tests, and they exist.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

fn client() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../client")
}

/// The rows of the tables, by their cells.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut rows = vec![];
    let mut in_table = false;
    for line in text.lines() {
        if line.starts_with("| upstream |") {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("|---") {
            rows.push(line.trim_matches('|').split(" | ").map(str::trim).collect());
        }
    }
    rows
}

/// What stands between backticks, as file and function.
fn tests(cell: &str) -> Vec<(&str, &str)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once("::")).collect()
}

/// The names of the tests in a file: functions under a `test` attribute.
fn tests_in(file: &Path) -> Option<HashSet<String>> {
    let text = fs::read_to_string(file).ok()?;
    let mut names = HashSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && let Some((_, rest)) = line.split_once("fn ") {
            is_test = false;
            names.extend(rest.split('(').next().map(str::to_owned));
        }
    }
    Some(names)
}

#[test]
fn every_row_names_tests_that_exist_and_a_result() {
    let text = fs::read_to_string(client().join("CONFORMANCE.md")).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 120, "{} rows were found", rows.len());
    let mut known = HashMap::new();
    let mut faults = vec![];
    for row in &rows {
        let &[upstream, promise, ours, result] = row.as_slice() else {
            faults.push(format!("{row:?} has not four cells"));
            continue;
        };
        if promise.is_empty() || tests(ours).is_empty() {
            faults.push(format!("{upstream}: no promise, or no test that keeps it"));
        }
        for (file, name) in tests(ours) {
            let names = known.entry(file).or_insert_with(|| {
                let folder = if file.starts_with("src/") {
                    client()
                } else {
                    client().join("tests/channel")
                };
                tests_in(&folder.join(file)).unwrap_or_default()
            });
            if !names.contains(name) {
                faults.push(format!("{upstream}: there is no test {name} in {file}"));
            }
        }
        let (result, reason) = result.split_once(": ").unwrap_or((result, ""));
        let told = match result {
            "same" => true,
            "stronger" | "differs" => !reason.is_empty(),
            _ => false,
        };
        if !told {
            faults.push(format!("{upstream}: result {result:?} without a reason"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_upstream_test_has_two_rows() {
    let text = fs::read_to_string(client().join("CONFORMANCE.md")).unwrap();
    let mut seen = HashSet::new();
    for row in rows(&text) {
        assert!(seen.insert(row[0].to_owned()), "{}", row[0]);
    }
}
