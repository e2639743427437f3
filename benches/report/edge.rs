//! The edge build as it is deployed: built here, into a directory of its own, so that no other build is measured.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::figure::{Figure, Outcome, Section};

pub const SECTION: Section = Section { name: "edge", about: "the edge build: size of the binary, crates in it", run };

const FEATURES: &[&str] = &["--no-default-features", "--locked"];

/// Builds the agent without default features, as a release, and says where it is.
pub fn agent() -> Result<PathBuf, Box<dyn Error>> {
    build("target/edge", &[])
}

/// The same, able to compress history.
pub fn compressing_agent() -> Result<PathBuf, Box<dyn Error>> {
    build("target/edge-zstd", &["--features", "zstd"])
}

fn build(target: &str, features: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
    let mut build = cargo("build");
    build.args(["--release", "--bin", "holdover", "--target-dir"]).arg(&target).args(FEATURES).args(features);
    let status = build.stdout(Stdio::null()).status()?;
    if status.success() { Ok(target.join("release/holdover")) } else { Err("the edge build failed".into()) }
}

/// In a short run nothing is built.
fn run(short: bool) -> Outcome {
    let mut figures = vec![Figure::new("crates", crates()? as f64, "").note("linked, or run at build time")];
    if !short {
        let size = std::fs::metadata(agent()?)?.len();
        figures.push(Figure::new("stripped binary", size as f64 / 1e6, "MB").budget("<= 3"));
    }
    Ok(figures)
}

fn crates() -> Result<usize, Box<dyn Error>> {
    let output =
        cargo("tree").args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]).args(FEATURES).output()?;
    let text = String::from_utf8(output.stdout)?;
    let crates: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    Ok(crates.len())
}

fn cargo(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.arg(verb).arg("--quiet").current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}
