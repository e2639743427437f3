//! Linux, and what is like it.

pub mod children;
pub mod clocks;
mod dial;
pub mod files;
pub mod local;
mod permit;
pub mod service;
