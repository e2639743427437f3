//! Who a script runs as, how politely, and what must be true of its file before it runs at all.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Whether a program that others could change is refused.
    pub check_owner: bool,
    /// Of the program's file, in lower-case hexadecimal.
    pub sha256: Option<String>,
    /// A user of this host by name or number; only root may run scripts as somebody else.
    pub user: Option<String>,
    /// 0 to 19.
    pub nice: u8,
    pub ionice: Option<Ionice>,
}

impl Default for Confinement {
    fn default() -> Self {
        Self { check_owner: true, sha256: None, user: None, nice: 0, ionice: None }
    }
}

/// How its reads and writes of disks are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ionice {
    /// The last of the usual ranks.
    Low,
    /// Only when nobody else wants the disk.
    Idle,
}

impl Ionice {
    /// In the configuration; the first is no choice at all.
    pub const NAMES: [&'static str; 3] = ["normal", "low", "idle"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "low" => Some(Self::Low),
            "idle" => Some(Self::Idle),
            _ => None,
        }
    }

    /// For `ionice`, of util-linux or busybox.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "for the minder, which is Linux's"))]
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Low => &["-c", "2", "-n", "7"],
            Self::Idle => &["-c", "3"],
        }
    }
}
