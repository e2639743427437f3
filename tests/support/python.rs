//! Finds a Python 3 that can import what a tool needs: the one in the PATH, else Debian's.

use std::process::Command;

/// The interpreter that can import all of `modules`; panics with what to install when there is none.
pub fn with_modules(modules: &[&str]) -> &'static str {
    let import = format!("import {}", modules.join(", "));
    let mut reasons = String::new();
    for python in ["python3", "/usr/bin/python3"] {
        match Command::new(python).args(["-c", &import]).output() {
            Ok(output) if output.status.success() => return python,
            Ok(output) => reasons += &format!("{python}: {}\n", String::from_utf8_lossy(&output.stderr).trim()),
            Err(error) => reasons += &format!("{python}: {error}\n"),
        }
    }
    panic!(
        "no Python 3 with {modules:?}: install python3-msgpack, python3-paho-mqtt and python3-zstandard.\n{reasons}"
    );
}
