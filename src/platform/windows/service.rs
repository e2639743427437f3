//! There is no service manager that would be told anything, and stops come as events of the console.

use std::time::Duration;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// Silent.
#[derive(Debug)]
pub struct ServiceManager;

impl ServiceManager {
    pub fn new(_: Duration) -> Self {
        Self
    }

    pub fn ready(&self, _: &str) {}

    pub fn stopping(&self) {}

    pub fn next_wake(&self) -> Option<Duration> {
        None
    }

    pub fn tick(&mut self, _: Duration) {}
}

/// The first asks for an orderly stop, the second for a fast one. A changed configuration is noticed by looking.
#[derive(Debug)]
pub struct Signals {
    c: CtrlC,
    break_: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Signals {
    pub fn install() -> std::io::Result<Self> {
        Ok(Self { c: ctrl_c()?, break_: ctrl_break()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    /// Cancel-safe; always asks for a stop.
    pub async fn any(&mut self) -> Option<&'static str> {
        Some(self.next().await)
    }

    /// The next that asks for a stop. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.c.recv() => "CTRL-C",
            _ = self.break_.recv() => "CTRL-BREAK",
            _ = self.close.recv() => "CTRL-CLOSE",
            _ = self.shutdown.recv() => "CTRL-SHUTDOWN",
        }
    }
}
