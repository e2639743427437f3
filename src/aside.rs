//! Work that may block, on a thread of its own: a disk or a mount that hangs must not stop a loop. A thread that the
//! system does not give is an error like any other; tokio's own pool would panic.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::Builder;

use tokio::sync::oneshot;

/// Work under way: awaited it is the result, dropped it goes on without being heard. It never holds up the process's end.
#[derive(Debug)]
pub struct Aside<T>(Result<oneshot::Receiver<T>, String>);

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("the system gives no thread for it: {0}")]
    NoThread(String),
    #[error("it failed inside; the log line before this one says where")]
    Panicked,
}

/// Starts it. Whoever calls bounds how much of it there is at a time: one that hangs keeps its thread.
pub fn run<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Aside<T> {
    run_on(Builder::new().name(name.to_owned()), work)
}

fn run_on<T: Send + 'static>(thread: Builder, work: impl FnOnce() -> T + Send + 'static) -> Aside<T> {
    let (sender, receiver) = oneshot::channel();
    // Nobody listens when it was dropped, and then nothing is lost.
    let started = refusal().and_then(|()| thread.spawn(move || drop(sender.send(work()))));
    Aside(started.map(|_| receiver).map_err(|error| error.to_string()))
}

impl<T> Future for Aside<T> {
    type Output = Result<T, Lost>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            Ok(receiver) => Pin::new(receiver).poll(context).map_err(|_| Lost::Panicked),
            Err(error) => Poll::Ready(Err(Lost::NoThread(error.clone()))),
        }
    }
}

#[cfg(not(test))]
fn refusal() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
use testing::refusal;
#[cfg(test)]
pub use testing::without_threads;

#[cfg(test)]
mod testing {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::io;
    use std::pin::pin;

    thread_local! {
        static REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    /// What `work` starts gets no thread, as at the limit of tasks.
    pub async fn without_threads<T>(work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            REFUSED.set(true);
            let polled = work.as_mut().poll(context);
            REFUSED.set(false);
            polled
        })
        .await
    }

    pub fn refusal() -> io::Result<()> {
        if REFUSED.get() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn work_is_done_on_a_thread_of_that_name() {
        let work = || std::thread::current().name().map(str::to_owned);
        assert_eq!(block_on(run("beside", work)), Ok(Some("beside".to_owned())));
    }

    #[test]
    fn a_thread_that_the_system_does_not_give_is_an_error() {
        // More stack than there are addresses.
        let lost = block_on(run_on(Builder::new().stack_size(1 << 60), || ())).unwrap_err();
        assert!(matches!(lost, Lost::NoThread(_)) && lost.to_string().contains("gives no thread"), "{lost}");
        assert!(matches!(block_on(without_threads(async { run("beside", || ()).await })), Err(Lost::NoThread(_))));
    }

    #[test]
    fn a_panic_of_the_work_is_its_own() {
        let work = || {
            if std::thread::current().name().is_some() {
                panic!("planted")
            }
        };
        assert_eq!(block_on(run("beside", work)), Err(Lost::Panicked));
    }
}
