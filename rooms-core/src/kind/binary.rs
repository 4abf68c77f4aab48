//! Payloads that are bytes: whether members publish them, and what the application does with them.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

use super::{
    HookError, Kind, Member,
    calls::{Call, answer, guarded},
};

type OnMessage = dyn Fn(Member, Bytes) -> BoxFuture<'static, Result<(), HookError>> + Send + Sync;
type OnPublish = dyn Fn(Member, Bytes) -> BoxFuture<'static, Result<Bytes, HookError>> + Send + Sync;

/// What a kind does with binary messages; nothing unless it says so.
#[derive(Clone, Default)]
pub(super) struct Binary {
    allowed: bool,
    on_message: Option<Arc<OnMessage>>,
    on_publish: Option<Arc<OnPublish>>,
}

impl Kind {
    /// Lets those members publish bytes, too, who [may publish](Self::publish_rule): in binary messages, as
    /// [`protocol`](crate::protocol#binary-messages) says. Without it such a message is answered by an `unsupported` error.
    ///
    /// The bytes reach the members as they came, unless [`on_binary_publish`](Self::on_binary_publish) makes others of them.
    /// Nothing is checked but their number, `Limits::max_broadcast_bytes`; there may be none. What the application broadcasts by
    /// [`binary`](crate::Broadcast::binary) needs no leave.
    ///
    /// ```
    /// use rooms_core::{HookError, Kind};
    ///
    /// let drawing = Kind::authenticated().allow_publish().allow_binary().on_binary_publish(|_, stroke| async move {
    ///     if stroke.len() > 4_096 {
    ///         return Err(HookError::refused("a stroke has at most 4096 bytes"));
    ///     }
    ///     Ok(stroke)
    /// });
    /// # let _ = drawing;
    /// ```
    pub fn allow_binary(mut self) -> Self {
        self.binary.allowed = true;
        self
    }

    /// [`on_publish`](Self::on_publish) for bytes: runs for what a member publishes in a binary message, once its rule has said
    /// yes. The bytes that it returns are published, those that came or others; an error publishes nothing. The bytes share the
    /// memory of the message that they came in.
    ///
    /// It is not asked about JSON, nor `on_publish` about bytes. A kind that checks what is published has both, or refuses one.
    pub fn on_binary_publish<F, Fut, B>(mut self, hook: F) -> Self
    where
        F: Fn(Member, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<B, HookError>> + Send + 'static,
        B: Into<Bytes>,
    {
        let hook = move |member, bytes| hook(member, bytes).map(|published| published.map(Into::into)).boxed();
        self.binary.on_publish = Some(Arc::new(hook));
        self
    }

    /// [`on_message`](Self::on_message) for bytes: runs for each binary message of a member that is for the application. On a
    /// connection for one room that is each one, and no member publishes bytes there by itself; where the message names its room,
    /// its first byte says so. Without this hook such a message is answered by an `unsupported` error.
    ///
    /// The hook is given the bytes behind the head, at most `Limits::max_message_bytes`, and perhaps none. Success is not
    /// answered.
    ///
    /// ```
    /// use rooms_core::{HookError, Kind};
    ///
    /// let board = Kind::authenticated().on_binary_message(|member, moved| async move {
    ///     member.broadcast_binary_to_others(moved).await.map_err(|_| HookError::unavailable())?;
    ///     Ok(())
    /// });
    /// # let _ = board;
    /// ```
    pub fn on_binary_message<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Member, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HookError>> + Send + 'static,
    {
        self.binary.on_message = Some(Arc::new(move |member, bytes| hook(member, bytes).boxed()));
        self
    }

    /// Whether members may publish bytes, if they may publish.
    pub(crate) const fn allows_binary(&self) -> bool {
        self.binary.allowed
    }

    pub(crate) const fn takes_binary_messages(&self) -> bool {
        self.binary.on_message.is_some()
    }

    pub(crate) fn binary_message(
        &self,
        member: Member,
        bytes: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<(), HookError>> {
        let Some(hook) = self.binary.on_message.clone() else { return futures::future::ready(Ok(())).boxed() };
        let metrics = Arc::clone(&self.metrics);
        async move {
            let call = Call::of("on_binary_message", &metrics.on_message, &member);
            answer(guarded(call, within, async { hook(member, bytes).await }).await, &metrics.on_message)
        }
        .boxed()
    }

    pub(crate) async fn publishing_binary(
        &self,
        member: Member,
        bytes: Bytes,
        within: Duration,
    ) -> Result<Bytes, HookError> {
        match &self.binary.on_publish {
            Some(hook) => {
                let recorded = &self.metrics.on_publish;
                let call = Call::of("on_binary_publish", recorded, &member);
                answer(guarded(call, within, async { hook(member, bytes).await }).await, recorded)
            }
            None => Ok(bytes),
        }
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binary")
            .field("allowed", &self.allowed)
            .field("on_message", &self.on_message.is_some())
            .field("on_publish", &self.on_publish.is_some())
            .finish()
    }
}
