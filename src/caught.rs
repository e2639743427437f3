//! A library's panic over bytes that the world can have changed, as an error: a damaged file must cost what is in it, not the
//! process. What the work holds is dropped with it, so nothing half-changed is seen afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; `Err` says why it panicked.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "no reason given".into())
    })
}
