//! An admitted request that is answered by an event stream.

use serde::Serialize;

use super::{Admission, Verdict, with_claims};
use crate::{
    events::{self, EventBody, EventInput, EventSink, Ids, LastId},
    handshake::{Asked, MAX_ROOMS, Refusal},
    join_options::JoinOptions,
    manager::RoomManager,
    message::Form,
    metrics::One,
    payload::Payload,
    room_key::RoomKey,
};

impl Admission {
    /// Serves one room or several as an event stream, in a task of its own; gives the body of the answer, whose head is
    /// [`response`](Self::response). For requests that were admitted as
    /// [`Opening::EventStream`](crate::adapter::Opening::EventStream).
    ///
    /// One room is as at the endpoint of one: a refusal ends the stream. Of several the others go on.
    ///
    /// # Errors
    /// [`Refusal::Rooms`] for none, or more than 16.
    pub fn events(self, rooms: impl IntoIterator<Item = RoomKey>) -> Result<EventBody, Refusal> {
        let rooms: Vec<RoomKey> = rooms.into_iter().take(MAX_ROOMS + 1).collect();
        match &*rooms {
            [room] => self.serve_events(|asked, join| Ok(Connecting::to_one(room, asked, join))),
            rooms => self.serve_events(|asked, join| Connecting::to_many(rooms, asked, &join)),
        }
    }

    /// [`events`](Self::events) for the rooms that the URL names: `?room=post:42&room=post:43`, with `observed` in the place of
    /// `room` for one to be observed. They are joined as on a connection for many rooms, also where it is one.
    ///
    /// # Errors
    /// [`Refusal::Room`] where one of them is none, and as `events`.
    pub fn events_asked_for(mut self) -> Result<EventBody, Refusal> {
        match self.handshake.take_rooms() {
            Some(rooms) => self.serve_events(|asked, join| Connecting::to_many(&rooms, asked, &join)),
            None => Err(self.refuse(Refusal::Room)),
        }
    }

    fn serve_events(
        self,
        connecting: impl FnOnce(&Asked, JoinOptions) -> Result<Connecting, Refusal>,
    ) -> Result<EventBody, Refusal> {
        let manager = self.rooms.clone();
        self.open_events(connecting).inspect_err(|refusal| manager.note_refusal(refusal))
    }

    fn open_events(
        self,
        connecting: impl FnOnce(&Asked, JoinOptions) -> Result<Connecting, Refusal>,
    ) -> Result<EventBody, Refusal> {
        let (Verdict::Known(identity), Some(asked)) = (self.verdict, self.handshake.events()) else {
            return Err(Refusal::Token);
        };
        let identity = with_claims(identity, self.claims).map_err(|_| Refusal::Misconfigured)?;
        let manager: RoomManager<EventSink> = self.rooms.with_sink();
        let join = self.handshake.join_options().clone();
        let Connecting { first, said, form, ids } = connecting(asked, join)?;
        let (input, sink, body) = events::open(said, ids, One::of(&self.rooms.shared.metrics.event_streams));
        let who = (identity, self.newcomer.from);
        let served = manager.serve_in::<EventInput>(form.into(), input, sink, who, first, None);
        served.note_in(&self.span);
        // Now it is counted as a connection.
        drop(self.newcomer);
        let served = served.freeing(self.place);
        tokio::spawn(match self.on_close {
            None => served,
            Some(on_close) => served.and_then(|close| on_close.ended(close)),
        });
        Ok(body)
    }
}

/// How the connection begins.
struct Connecting {
    first: Option<(RoomKey, JoinOptions)>,
    said: Vec<String>,
    form: Form,
    ids: Ids,
}

/// What a client of many rooms would say itself.
#[derive(Serialize)]
struct Join<'a> {
    r#type: &'static str,
    room: &'a str,
    since: &'a str,
    newest: usize,
    observe: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<&'a serde_json::value::RawValue>,
}

impl Connecting {
    /// As at the endpoint of one room, where a refusal ends the connection.
    fn to_one(room: &RoomKey, asked: &Asked, join: JoinOptions) -> Self {
        let join = match LastId(&asked.last_id).position_in_only(room) {
            "" => join.told_positions(),
            position => join.since(position),
        };
        Self { first: Some((room.clone(), join)), said: Vec::new(), form: Form::Positioned, ids: Ids::One }
    }

    /// As a client that is in many rooms would join them.
    fn to_many(rooms: &[RoomKey], asked: &Asked, join: &JoinOptions) -> Result<Self, Refusal> {
        if rooms.is_empty() || rooms.len() > MAX_ROOMS {
            return Err(Refusal::Rooms);
        }
        let last_id = LastId(&asked.last_id);
        let since =
            |room: &RoomKey| if rooms.len() == 1 { last_id.position_in_only(room) } else { last_id.position(room) };
        let said = rooms.iter().map(|room| {
            let join = Join {
                r#type: "join",
                room: room.as_str(),
                since: since(room),
                newest: join.newest,
                observe: join.observes || asked.observed.contains(room),
                with: join.with.as_ref().map(Payload::raw),
            };
            // Strings, numbers and the like always encode.
            serde_json::to_string(&join).unwrap_or_default()
        });
        let ids = Ids::many(rooms.iter().map(|room| (room, since(room))));
        Ok(Self { first: None, said: said.collect(), form: Form::Multi, ids })
    }
}
