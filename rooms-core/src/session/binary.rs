//! What a client says in a binary message, and how it is answered.

use bytes::Bytes;
use futures::FutureExt as _;

use super::{
    Session, Source,
    commands::{Data, no},
    rate::TooMany,
    work::{Done, Work, work},
};
use crate::{
    kind::Kind,
    message::Form,
    protocol::{
        self, ErrorCode, Fault, Ref,
        binary::{self, BinaryCommand, BinaryRequest},
    },
    room_key::RoomKey,
    timers::Moment,
};

const NOT_TAKEN: Fault = Fault::new(ErrorCode::Unsupported, "binary messages are not taken here");
const NOT_PUBLISHED: Fault = Fault::new(ErrorCode::Unsupported, "members do not publish binary messages here");

impl<R: Source> Session<R> {
    /// Does what a client says in a binary message, or begins to.
    pub(super) fn carry_out_binary(&mut self, frame: &Bytes, now: Moment) -> Result<(), TooMany> {
        let BinaryRequest { command, reference } = match self.form() {
            Form::Single => self.bare(frame),
            Form::Positioned | Form::Multi => binary::read(frame),
        };
        let fault = match command.and_then(|command| self.allowed(command)) {
            Ok(command) => match self.may_publish(frame.len()) {
                Ok(()) => {
                    self.work = Some(match command {
                        BinaryCommand::Publish(room, bytes) => self.publish(room, Data::Bytes(bytes), reference),
                        BinaryCommand::Application(room, bytes) => self.binary_hook(room, bytes, reference),
                    });
                    return Ok(());
                }
                Err(fault) => {
                    let (BinaryCommand::Publish(room, _) | BinaryCommand::Application(room, _)) = command;
                    let fault = if let Some(room) = self.named(room) { fault.of(&room) } else { fault };
                    self.connection.send(&protocol::error(&fault, reference.as_ref()));
                    return self.note_refused(now);
                }
            },
            Err(fault) => fault,
        };
        self.connection.send(&protocol::error(&fault, reference.as_ref()));
        Ok(())
    }

    /// Bytes on a connection for one room, all of which are payload: for the hook where there is one, and published otherwise.
    fn bare(&self, frame: &Bytes) -> BinaryRequest {
        let room = self.connection.rooms().next().cloned();
        let command = room.ok_or(NOT_TAKEN).and_then(|room| {
            let kind = self.joined(&room)?;
            if kind.takes_binary_messages() {
                Ok(BinaryCommand::Application(room, frame.clone()))
            } else if kind.allows_binary() {
                Ok(BinaryCommand::Publish(room, frame.clone()))
            } else {
                Err(NOT_TAKEN)
            }
        });
        BinaryRequest { command, reference: None }
    }

    /// Whether the connection is in the room, and its kind takes that.
    fn allowed(&self, command: BinaryCommand) -> Result<BinaryCommand, Fault> {
        let (room, takes, fault): (_, fn(&Kind) -> bool, _) = match &command {
            BinaryCommand::Publish(room, _) => (room, Kind::allows_binary, NOT_PUBLISHED),
            BinaryCommand::Application(room, _) => (room, Kind::takes_binary_messages, NOT_TAKEN),
        };
        if takes(self.joined(room)?) { Ok(command) } else { Err(fault.of(room)) }
    }

    /// The application's answer to a binary message.
    fn binary_hook(&self, room: RoomKey, bytes: Bytes, reference: Option<Ref>) -> Work {
        let shared = self.connection.shared();
        let Some(kind) = shared.kinds.get(room.kind()) else { return work(std::future::ready(Done::Silently)) };
        let answer = kind.binary_message(self.connection.member(&room), bytes, shared.limits.hook_timeout);
        let room = self.named(room);
        work(answer.map(move |result| match result {
            Ok(()) => Done::Silently,
            Err(error) => no(error, room.as_ref(), reference.as_ref()),
        }))
    }
}
