//! A join of a room that the connection is in, and is given no messages of.

use std::sync::Arc;

use futures::FutureExt as _;

use super::{
    Session, Source,
    commands::UNAVAILABLE,
    work::{Asked, Done, Work, joining},
};
use crate::{
    join_options::JoinOptions,
    protocol::{self, Ref},
    room_key::RoomKey,
};

impl<R: Source> Session<R> {
    /// Has it go on there.
    pub(super) fn resume(&mut self, room: RoomKey, options: JoinOptions, reference: Option<Arc<Ref>>) -> Work {
        let resume = self.connection.begin_resume(&room, options, reference.clone());
        let (of, by) = (room.clone(), Asked::ByClient(reference.clone()));
        let done = resume.map(move |resumed| match resumed {
            Ok(replayed) => Done::Resumed(replayed),
            Err(_) => Done::Answer(protocol::error(&UNAVAILABLE.of(&room), reference.as_deref())),
        });
        joining(of, by, done)
    }
}
