//! Telling the application when a connection ends.

use crate::close::{Close, CloseCode};

type Hook = Box<dyn FnOnce(Close) + Send>;

/// A function that is called once, whatever becomes of the connection: also where its upgrade fails, its task panics, or its
/// runtime ends.
pub(super) struct OnClose(Option<Hook>);

impl OnClose {
    pub(super) fn new(hook: impl FnOnce(Close) + Send + 'static) -> Self {
        Self(Some(Box::new(hook)))
    }

    pub(super) fn ended(mut self, close: Close) {
        if let Some(hook) = self.0.take() {
            hook(close);
        }
    }
}

impl Drop for OnClose {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            hook(Close::known(CloseCode::GOING_AWAY, ""));
        }
    }
}
