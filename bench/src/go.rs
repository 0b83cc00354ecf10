//! Peers in Go: `bench/peers/go`, built on the spot.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Builds the program in this folder of `bench/peers/go`. Gives where it is.
///
/// # Errors
/// If there is no Go, or grpc-go cannot be fetched.
pub(crate) fn build(folder: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/go");
    let program = source.join(".build").join(folder);
    let built = Command::new("go")
        .current_dir(&source)
        .args(["build", "-o"])
        .args([&program])
        .arg(format!("./{folder}"))
        .stdout(Stdio::null())
        .status();
    let built = built.context("cannot run `go`")?;
    ensure!(
        built.success(),
        "`go build ./{folder}` in {}: {built}",
        source.display()
    );
    Ok(program)
}
