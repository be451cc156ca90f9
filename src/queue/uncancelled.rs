//! Work that must be carried to its end although its caller may go away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls `work` in place; dropped before its end, it goes on as a task of its own.
///
/// A client that hangs up cancels its request's future. Between "the log has it" and "memory has it" that
/// would leave an item in the one and not in the other.
pub(super) fn uncancelled<F>(work: F) -> Uncancelled<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    Uncancelled(Some(Box::pin(work)))
}

/// See [`uncancelled`].
pub(super) struct Uncancelled<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Future for Uncancelled<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = self.0.as_mut() else {
            return Poll::Pending;
        };
        let poll = work.as_mut().poll(context);
        if poll.is_ready() {
            self.0 = None;
        }
        poll
    }
}

impl<T: Send + 'static> Drop for Uncancelled<T> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropped_work_goes_on() {
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, finished) = tokio::sync::oneshot::channel();
        let mut work = uncancelled(async move {
            let _ = wait.await;
            let _ = done.send(7);
        });
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(finished.await, Ok(7));
    }
}
