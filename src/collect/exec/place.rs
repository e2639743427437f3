//! How the configuration says where control groups may be made.

use std::path::PathBuf;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In the agent's own group, if systemd has delegated it.
    #[default]
    Auto,
    Off,
    /// A directory of the control group file system that the agent may write to.
    At(PathBuf),
}
