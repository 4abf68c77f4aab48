//! What a client asks for, and how it is answered.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use serde_json::{Value, value::RawValue};

use super::{
    Session, Source,
    rate::{TooMany, of_bytes},
    source::HEADER,
    work::{Asked, Done, NOT_ALLOWED, Work, joining, work},
};
use crate::{
    auth::Decision,
    bus::BusError,
    close::Close,
    connection::{JoinError, Joined, NewRooms},
    envelope::Carried,
    join_options::JoinOptions,
    json::JsonFault,
    kind::{HookError, Kind},
    manager::RoomManager,
    message::Form,
    outgoing::USER,
    payload::Payload,
    protocol::{self, Command, ErrorCode, Fault, Ref, Request, multi, single},
    receipt::BroadcastError,
    room_key::RoomKey,
    timers::Moment,
};

/// What a member publishes.
pub(super) enum Data {
    /// Its bounds are not looked at yet.
    Json(Box<RawValue>),
    Bytes(Bytes),
}

const NOT_JOINED: Fault = Fault::new(ErrorCode::NotJoined, "the connection is not in this room");
const TOO_MANY_ROOMS: Fault = Fault::new(ErrorCode::TooManyRooms, "the connection is in too many rooms");
const PERHAPS: Fault = Fault::new(ErrorCode::Unavailable, "it may have been published or not");
const TOO_BIG: Fault = Fault::new(ErrorCode::TooBig, "the data is too long");
const TOO_DEEP: Fault = Fault::new(ErrorCode::TooBig, "the data is nested more than 64 deep");
pub(super) const UNAVAILABLE: Fault = Fault::new(ErrorCode::Unavailable, "try again later");

impl<S> RoomManager<S> {
    /// The room of a user's own connections, where the application has that kind.
    pub(crate) fn user_room(&self, user: &str) -> Option<RoomKey> {
        self.shared.kinds.get(USER)?;
        RoomKey::new(USER, user).ok()
    }
}

impl<R: Source> Session<R> {
    pub(super) fn form(&self) -> Form {
        self.connection.recipient().form()
    }

    /// The join that a connection begins with: of its only room, or of the user's own.
    pub(super) fn first_join(&mut self, room: &RoomKey, options: JoinOptions) -> Work {
        let form = self.form();
        if form == Form::Multi {
            self.connection.enters_unasked(room);
        }
        let join = self.connection.begin_join(room, options, None, NewRooms::Counted);
        // Mapped, because a block would keep the join twice: where it is captured and where it is awaited.
        let done = join.map(move |joined| match (joined, form) {
            (Ok(joined), _) => Done::Joined(joined),
            // Whoever has no room of their own does without.
            (Err(JoinError::NotAllowed { .. }), Form::Multi) => Done::Silently,
            // Nobody asks for it again, so the page comes back and tries.
            (Err(error @ JoinError::Refused { source: HookError::Unavailable, .. }), _) => over(&error),
            (Err(JoinError::Refused { room, source: error }), Form::Multi) => no(error, Some(&room), None),
            (Err(error), _) => over(&error),
        });
        joining(room.clone(), Asked::ByServer, done)
    }

    /// Does what a client says, or begins to.
    pub(super) fn carry_out(&mut self, text: &str, now: Moment) -> Result<(), TooMany> {
        let Request { command, reference } = match self.form() {
            Form::Single | Form::Positioned => single::read(text),
            Form::Multi => multi::read(text),
        };
        let answer = match command {
            Ok(Command::Ping) => protocol::pong(reference.as_ref()),
            Ok(Command::Refresh(token)) => {
                let is_looked_at = self.refresh(token.into_owned(), reference);
                return if is_looked_at { Ok(()) } else { self.note_refused(now) };
            }
            Ok(Command::Join(room, options)) if self.connection.goes_on(&room, &options) => {
                self.work = Some(self.resume(room, options, reference.map(Arc::new)));
                return self.note_join(text, now);
            }
            Ok(Command::Join(room, options)) => match self.connection.stands(&room, &options) {
                Some(standing) => {
                    let joined = protocol::room_joined(&room, standing, Value::Null, reference.as_ref());
                    let state = self.connection.state(&room);
                    let answer: Vec<_> = std::iter::once(joined).chain(state).collect();
                    self.connection.recipient().deliver_standing(&room, &answer);
                    return Ok(());
                }
                None => {
                    self.work = Some(self.join(room, options, Asked::ByClient(reference.map(Arc::new))));
                    return self.note_join(text, now);
                }
            },
            Ok(Command::Leave(room)) if self.connection.leave(&room) => {
                self.connection.send(&protocol::room_left(&room, reference.as_ref()));
                return self.note_join(text, now);
            }
            Ok(Command::Leave(room)) => protocol::error(&NOT_JOINED.of(&room), reference.as_ref()),
            Ok(Command::Publish(room, data)) => match self.joined(&room) {
                Ok(_) => match self.may_publish(text.len()) {
                    Ok(()) => {
                        self.work = Some(self.publish(room, Data::Json(data.to_owned()), reference));
                        return Ok(());
                    }
                    Err(fault) => {
                        self.connection.send(&protocol::error(&fault.of(&room), reference.as_ref()));
                        return self.note_refused(now);
                    }
                },
                Err(fault) => protocol::error(&fault, reference.as_ref()),
            },
            Ok(Command::Application(room)) => match self.hooked(room, text) {
                Ok((kind, room, message)) => match self.may_publish(text.len()) {
                    Ok(()) => {
                        self.work = Some(self.hook(kind, room, message, reference));
                        return Ok(());
                    }
                    Err(fault) => {
                        let fault = if let Some(room) = self.named(room) { fault.of(&room) } else { fault };
                        self.connection.send(&protocol::error(&fault, reference.as_ref()));
                        return self.note_refused(now);
                    }
                },
                Err(fault) => protocol::error(&fault, reference.as_ref()),
            },
            Err(fault) => protocol::error(&fault, reference.as_ref()),
        };
        self.connection.send(&answer);
        Ok(())
    }

    /// Counts a join or a leave, besides its message.
    fn note_join(&mut self, text: &str, now: Moment) -> Result<(), TooMany> {
        let bytes = u32::try_from(HEADER + text.len()).unwrap_or(u32::MAX);
        self.rate.took_join(now, bytes, &self.connection.shared().limits)
    }

    /// Counts a command that is refused because there are too many like it.
    pub(super) fn note_refused(&mut self, now: Moment) -> Result<(), TooMany> {
        self.rate.took_refused(now, &self.connection.shared().limits)
    }

    /// Whether the user has something left of what all its connections may publish together.
    pub(super) fn may_publish(&self, bytes: usize) -> Result<(), Fault> {
        let shared = self.connection.shared();
        let time = of_bytes(u32::try_from(bytes).unwrap_or(u32::MAX), &shared.limits);
        let taken = shared.limiters.publish(shared.runtime.handle(), self.connection.recipient().client(), time);
        taken.map_err(|wait| Fault::rate_limited("you publish too much", wait))
    }

    pub(super) fn finish(&mut self, done: Done) -> Result<(), Close> {
        match done {
            Done::Joined(joined) => self.keep(joined)?,
            Done::Answer(answer) => self.connection.send(&answer),
            Done::Resumed(replayed) => self.connection.resumed(replayed),
            Done::Silently => {}
            Done::Over(close) => {
                // What a hook sent before it closed goes out first.
                self.connection.close(close.clone());
                return Err(close);
            }
        }
        Ok(())
    }

    /// Keeps a place; whoever comes into its user's own room is told by it how many connections that user has, over all nodes.
    fn keep(&mut self, joined: Joined) -> Result<(), Close> {
        let shared = Arc::clone(self.connection.shared());
        let own =
            joined.room().is_some_and(|room| room.kind() == USER && room.id() == self.connection.identity().user());
        let viewers = self.connection.keep(joined);
        if own && viewers > shared.limits.max_connections_per_user_over_nodes {
            shared.limiters.note_refusal();
            self.connection.close(Close::TOO_MANY_CONNECTIONS);
            return Err(Close::TOO_MANY_CONNECTIONS);
        }
        Ok(())
    }

    pub(super) fn join(&mut self, room: RoomKey, options: JoinOptions, asked: Asked) -> Work {
        let new_rooms = match asked {
            Asked::ByClient(_) => NewRooms::Counted,
            Asked::ByServer => NewRooms::Free,
        };
        let join = self.connection.begin_join(&room, options, asked.reference().cloned(), new_rooms);
        let (of, by) = (room.clone(), asked.clone());
        let done = join.map(move |joined| {
            let reference = match &asked {
                Asked::ByClient(reference) => reference.as_deref(),
                // A client that did not ask is not told of a refusal either.
                Asked::ByServer => {
                    return match joined {
                        Ok(joined) => Done::Joined(joined),
                        Err(JoinError::Refused { source: HookError::Close(close), .. }) => Done::Over(close),
                        Err(_) => Done::Silently,
                    };
                }
            };
            let refused = |fault: Fault| Done::Answer(protocol::error(&fault.of(&room), reference));
            match joined {
                Ok(joined) => Done::Joined(joined),
                Err(JoinError::NotAllowed { .. }) => refused(NOT_ALLOWED),
                Err(JoinError::TooManyRooms { .. }) => refused(TOO_MANY_ROOMS),
                Err(
                    JoinError::RuleUnavailable { .. } | JoinError::Unavailable { .. } | JoinError::RuntimeEnded { .. },
                ) => refused(UNAVAILABLE),
                Err(JoinError::TooManyNewRooms { retry_after, .. }) => {
                    refused(Fault::rate_limited("you join too many new rooms", retry_after))
                }
                Err(JoinError::Refused { source: error, .. }) => no(error, Some(&room), reference),
            }
        });
        joining(of, by, done)
    }

    pub(super) fn publish(&self, room: RoomKey, data: Data, reference: Option<Ref>) -> Work {
        let shared = Arc::clone(self.connection.shared());
        let member = self.connection.member(&room);
        work(async move {
            let refused = |fault: Fault| Done::Answer(protocol::error(&fault.of(&room), reference.as_ref()));
            let Some(kind) = shared.kinds.get(room.kind()) else { return refused(NOT_JOINED) };
            match kind.may_publish(member.identity(), &room, shared.limits.rule_timeout).await {
                Decision::Allow => {}
                Decision::Deny => return refused(NOT_ALLOWED),
                Decision::Unavailable => return refused(UNAVAILABLE),
            }
            let within = shared.limits.hook_timeout;
            let published = match data {
                Data::Json(data) => {
                    let data = match Payload::received(data, shared.limits.max_containers) {
                        Ok(data) => data,
                        Err(fault) => return refused(out_of_bounds(fault)),
                    };
                    match kind.publishing(member, data, within).await {
                        Ok(data) => shared.publish(&room, data).await,
                        Err(error) => return no(error, Some(&room), reference.as_ref()),
                    }
                }
                Data::Bytes(bytes) => match kind.publishing_binary(member, bytes, within).await {
                    Ok(bytes) => shared.broadcast(&room, bytes, None, Carried::Binary).await,
                    Err(error) => return no(error, Some(&room), reference.as_ref()),
                },
            };
            match published {
                Ok(receipt) => match &reference {
                    Some(reference) => Done::Answer(protocol::published(&room, receipt, reference)),
                    None => Done::Silently,
                },
                Err(BroadcastError::TooBig { .. }) => refused(TOO_BIG),
                Err(BroadcastError::TooDeep { .. }) => refused(TOO_DEEP),
                Err(error) => {
                    if let Some(left_out) = shared.warnings.unpublished.line() {
                        tracing::warn!(%error, left_out, "what a member published did not go out");
                    }
                    let unknown = matches!(error, BroadcastError::Bus { source: BusError::Unknown(_), .. });
                    refused(if unknown { PERHAPS } else { UNAVAILABLE })
                }
            }
        })
    }

    /// The room whose hook a message is for, which is the one that it names or the only one, and the message for it.
    fn hooked(&self, room: Option<RoomKey>, text: &str) -> Result<(&Kind, RoomKey, Payload), Fault> {
        let room = room.or_else(|| self.connection.rooms().next().cloned()).ok_or_else(multi::unknown)?;
        let kind = self.joined(&room)?;
        let fault = |fault: Fault| match self.form() {
            Form::Single | Form::Positioned => fault,
            Form::Multi => fault.of(&room),
        };
        if !kind.takes_messages() {
            return Err(fault(multi::unknown()));
        }
        let message = serde_json::from_str(text).map_err(|_| fault(Fault::bad_message("not JSON")))?;
        let message = Payload::received(message, self.connection.shared().limits.max_containers);
        let message = message.map_err(|bounds| fault(out_of_bounds(bounds)))?;
        Ok((kind, room, message))
    }

    /// The application's answer to a message.
    fn hook(&self, kind: &Kind, room: RoomKey, message: Payload, reference: Option<Ref>) -> Work {
        let message =
            kind.message(self.connection.member(&room), message, self.connection.shared().limits.hook_timeout);
        let room = self.named(room);
        let done = move |result| match result {
            Ok(()) => Done::Silently,
            Err(error) => no(error, room.as_ref(), reference.as_ref()),
        };
        work(message.map(done))
    }

    /// A room as an answer names it: not at all where there is only one.
    pub(super) fn named(&self, room: RoomKey) -> Option<RoomKey> {
        (self.form() == Form::Multi).then_some(room)
    }

    /// The kind of a room that the connection is in.
    pub(super) fn joined(&self, room: &RoomKey) -> Result<&Kind, Fault> {
        let joined = self.connection.rooms().any(|joined| joined == room);
        let kind = self.connection.shared().kinds.get(room.kind()).filter(|_| joined).map(|kind| &**kind);
        kind.ok_or_else(|| NOT_JOINED.of(room))
    }
}

/// What a hook that says no comes to.
pub(super) fn no(error: HookError, room: Option<&RoomKey>, reference: Option<&Ref>) -> Done {
    let fault = match error {
        HookError::Refused(words) => Fault::refused(words),
        HookError::BadMessage(words) => Fault { message: words, ..Fault::new(ErrorCode::BadMessage, "") },
        HookError::Unavailable => UNAVAILABLE,
        HookError::Close(close) => return Done::Over(close),
    };
    let fault = if let Some(room) = room { fault.of(room) } else { fault };
    Done::Answer(protocol::error(&fault, reference))
}

/// What is said of data that is JSON, and too much of it.
fn out_of_bounds(fault: JsonFault) -> Fault {
    match fault {
        JsonFault::TooManyContainers { limit } => Fault {
            message: format!("the data has more than {limit} arrays and objects").into(),
            ..Fault::new(ErrorCode::TooBig, "")
        },
        _ => TOO_DEEP,
    }
}

fn over(error: &JoinError) -> Done {
    // Not the reason: a hook's words may quote the client.
    let close = error.close();
    tracing::debug!(code = %close.code(), "a connection did not get into its room");
    Done::Over(close)
}
