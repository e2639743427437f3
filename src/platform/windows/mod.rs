//! Windows: scripts, outbox and uplink work; what is told of the host comes from scripts (docs/windows.md).

pub mod children;
pub mod clocks;
pub mod files;
pub mod local;
pub mod service;

fn unsupported(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Unsupported, format!("unsupported on Windows: {what}"))
}
