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
    /// # Errors
    /// [`Refusal::Rooms`] for none, or more than 16.
    pub fn events(self, rooms: impl IntoIterator<Item = RoomKey>) -> Result<EventBody, Refusal> {
        let rooms: Vec<RoomKey> = rooms.into_iter().take(MAX_ROOMS + 1).collect();
        self.serve_events(&rooms)
    }

    /// [`events`](Self::events) for the rooms that the URL names: `?room=post:42&room=post:43`.
    ///
    /// # Errors
    /// [`Refusal::Room`] where one of them is none, and as `events`.
    pub fn events_asked_for(mut self) -> Result<EventBody, Refusal> {
        match self.handshake.take_rooms() {
            Some(rooms) => self.serve_events(&rooms),
            None => Err(self.refuse(Refusal::Room)),
        }
    }

    fn serve_events(self, rooms: &[RoomKey]) -> Result<EventBody, Refusal> {
        let manager = self.rooms.clone();
        self.open_events(rooms).inspect_err(|refusal| manager.note_refusal(refusal))
    }

    fn open_events(self, rooms: &[RoomKey]) -> Result<EventBody, Refusal> {
        let (Verdict::Known(identity), Some(asked)) = (self.verdict, self.handshake.events()) else {
            return Err(Refusal::Token);
        };
        let identity = with_claims(identity, self.claims).map_err(|_| Refusal::Misconfigured)?;
        let manager: RoomManager<EventSink> = self.rooms.with_sink();
        let join = self.handshake.join_options().clone();
        let Connecting { first, said, form, ids } = Connecting::new(rooms, asked, join)?;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<&'a serde_json::value::RawValue>,
}

impl Connecting {
    /// One room is as at the endpoint of one, where a refusal ends the connection; several are joined as a client that is in
    /// many would join them.
    fn new(rooms: &[RoomKey], asked: &Asked, join: JoinOptions) -> Result<Self, Refusal> {
        if rooms.is_empty() || rooms.len() > MAX_ROOMS {
            return Err(Refusal::Rooms);
        }
        let last_id = LastId(&asked.last_id);
        if let [room] = rooms {
            let join = if last_id.0.is_empty() { join.told_positions() } else { join.since(last_id.0) };
            let first = Some((room.clone(), join));
            return Ok(Self { first, said: Vec::new(), form: Form::Positioned, ids: Ids::One });
        }
        let said = rooms.iter().map(|room| {
            let with = join.with.as_ref().map(Payload::raw);
            let join =
                Join { r#type: "join", room: room.as_str(), since: last_id.position(room), newest: join.newest, with };
            // Strings and a number always encode.
            serde_json::to_string(&join).unwrap_or_default()
        });
        Ok(Self { first: None, said: said.collect(), form: Form::Multi, ids: Ids::many() })
    }
}
