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

/// The same without libraries of the system, as images and old distributions get it; or what is missing to build it.
pub fn static_agent() -> Result<Result<PathBuf, String>, Box<dyn Error>> {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let rustc = Command::new("rustc").args(["--print", "target-libdir", "--target", &triple]).output()?;
    if !Path::new(String::from_utf8(rustc.stdout)?.trim()).is_dir() {
        return Ok(Err(format!("rustup target add {triple}")));
    }
    if Command::new("musl-gcc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Ok(Err("apt-get install musl-tools".to_owned()));
    }
    let built = build("target/edge-static", &["--target", &triple])?;
    let below = built.strip_prefix(folder("target/edge-static"))?;
    Ok(Ok(folder("target/edge-static").join(triple).join(below)))
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target)
}

fn build(target: &str, more: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
    let target = folder(target);
    let mut build = cargo("build");
    build.args(["--release", "--bin", "holdover", "--target-dir"]).arg(&target).args(FEATURES).args(more);
    let status = build.stdout(Stdio::null()).status()?;
    if status.success() { Ok(target.join("release/holdover")) } else { Err("the edge build failed".into()) }
}

/// In a short run nothing is built.
fn run(short: bool) -> Outcome {
    let mut figures = vec![Figure::new("crates", crates()? as f64, "").note("linked, or run at build time")];
    if !short {
        let size = std::fs::metadata(agent()?)?.len();
        figures.push(Figure::new("stripped binary", size as f64 / 1e6, "MB").budget("<= 3"));
        figures.push(match static_agent()? {
            Ok(program) => Figure::new("stripped binary, static", std::fs::metadata(program)?.len() as f64 / 1e6, "MB")
                .budget("<= 3"),
            Err(missing) => Figure::new("static builds measured", 0.0, "").note(missing),
        });
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
