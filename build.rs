//! What the linker is asked for besides what rustc asks.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A static program relocates itself, so the packed form (DT_RELR) asks nothing of the host: 0.14 MB of file and of
    // memory. One that glibc loads would need glibc 2.36, and does without. Linkers that do not know it say so and go on.
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
