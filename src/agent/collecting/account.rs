//! What became of the runs of one collector.

/// One collector's account, for `status`: runs that were due + `commanded` = `runs` + `missed` + those still going.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Runs that ended, well or not.
    pub runs: u64,
    /// Of them, those with an err record.
    pub failed: u64,
    /// Of them, those that had nothing to record: a script that ended well and printed nothing, a built-in collector
    /// whose source is still missing.
    pub silent: u64,
    pub missed: u64,
    /// Of them, those that were not made because the agent was beyond its own limits.
    pub shed: u64,
    /// Runs that a hub asked for.
    pub commanded: u64,
    pub last_ms: Option<i64>,
    pub last_error: Option<String>,
}

impl Account {
    pub(super) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.failed += other.failed;
        self.silent += other.silent;
        self.missed += other.missed;
        self.shed += other.shed;
        self.commanded += other.commanded;
    }
}
