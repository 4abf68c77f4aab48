//! The service itself in a room: as an observer whom no rule is asked about, and who is nobody's connection.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use futures::Sink;
use serde_json::Value;

use super::{
    JoinError, Place,
    joining::{ready, subscribed},
    leaving::Entered,
};
use crate::{
    auth::Identity,
    context::Shared,
    join_options::JoinOptions,
    kind::{Rights, Sort},
    message::{Form, Message},
    outbox::{Driver, Outbox, Progress, Recipient, Transport},
    presence::Listing,
    protocol,
    room::Arriving,
    room_key::RoomKey,
};

/// A place in a room, and what is sent to it; left when dropped.
pub(crate) struct Watching {
    shared: Arc<Shared>,
    driver: Driver,
    _entered: Entered,
}

impl Watching {
    /// Enters a room. The sink never waits.
    pub(crate) async fn enter(
        shared: &Arc<Shared>,
        key: &RoomKey,
        sink: impl Sink<Message> + Unpin + Send + 'static,
        options: &JoinOptions,
    ) -> Result<Self, JoinError> {
        let kind = shared.kinds.get(key.kind()).ok_or_else(|| JoinError::NotAllowed { room: key.clone() })?;
        // In this form a payload can't be taken for an event of the server's, and has its position.
        let outbox = Outbox::new(Transport::boxed(sink), &shared.limits).framed(Form::Positioned.into());
        let who = Identity::guest();
        let id = shared.connection_ids.next(shared.users.mark(who.user()));
        let driver = Driver::of(Arc::new(Recipient::new(id, who, outbox)));
        let (room, slot) = shared.registry.enter(key, kind, Arc::clone(&driver));
        let entered = Entered::new(shared, Place { room: Arc::clone(&room), slot });
        if !room.knows_others() {
            subscribed(shared, &room).await?;
        }
        if room.has_history() {
            ready(shared, &room, options).await?;
        }
        let rights = Rights { sort: Sort::Observer, sees_members: false };
        let arriving = Arriving { arrival: None, listing: Listing::Nothing, rights };
        let welcome = |standing| protocol::room_joined(key, standing, Value::Null, None);
        let effects = room.go_live(slot, arriving, options, welcome).effects;
        shared.registry.act(&room, effects);
        // So that nothing waits in front of a sink that always takes: from here on whoever has a message writes it.
        driver.drive(&mut Context::from_waker(Waker::noop()));
        Ok(Self { shared: Arc::clone(shared), driver, _entered: entered })
    }

    /// Moves what waits into the sink, and has the room give what it left out.
    pub(crate) fn drive(&self, cx: &mut Context<'_>) {
        if let Progress::Closed(_) = self.shared.drive(&self.driver, cx) {
            self.driver.end();
        }
    }
}
