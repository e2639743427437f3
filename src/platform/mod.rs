//! What one system does and another does otherwise: one folder a system, with the same names in each. Nothing else in
//! the agent asks which system it is on, but for Linux's own means (`/proc`, netlink, timerfd, minder), which fall back.
//!
//! What a system lacks is an error of kind `Unsupported` here, and `unsupported` in a record or at a command. Knows
//! nobody. Windows is a target of the edge agent alone (docs/decisions/0014-platforms.md).

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{children, clocks, files, local, service};
#[cfg(windows)]
pub use windows::{children, clocks, files, local, service};

/// Blocks and inodes of one file system, as `statvfs` gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsStat {
    /// Bytes per block of the three counts below.
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    /// Free for those who are not root.
    pub blocks_available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

impl FsStat {
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size)
    }

    pub fn bytes_available(&self) -> u64 {
        self.blocks_available.saturating_mul(self.block_size)
    }
}
