//! Questions from outside of a room: what the other nodes have in one that is not here.

use std::collections::HashMap;

use tokio::{sync::oneshot, time::Instant};

use super::{Presence, entry::Entry, queries::Reply};
use crate::{lock::lock, room_key::RoomKey};

/// Those that are open, by the number of the query.
pub(super) type Surveys = HashMap<u64, Surveying>;

/// Who asks from outside of a room, and what the nodes have replied.
#[derive(Debug)]
pub(super) struct Surveying {
    entries: Vec<Entry>,
    done: oneshot::Sender<(Vec<Entry>, bool)>,
}

impl Presence {
    /// What the other nodes have in a room that is not here: their entries, and whether all of them have replied.
    ///
    /// May be dropped at any time.
    pub(crate) async fn survey(&self, room: &RoomKey) -> (Vec<Entry>, bool) {
        let (done, answer) = oneshot::channel();
        let id = {
            // Locked before the query is open, so that no reply comes first.
            let mut surveys = lock(&self.surveys);
            let id = self.with_node(|node| node.survey(room.clone(), Instant::now()));
            surveys.insert(id, Surveying { entries: Vec::new(), done });
            id
        };
        let _open = OpenSurvey { presence: self, id };
        let (mut entries, complete) = answer.await.unwrap_or_default();
        entries.retain(|entry| entry.room == *room);
        (entries, complete)
    }

    pub(super) fn surveyed(&self, id: u64, reply: Reply) {
        if let Some(surveying) = lock(&self.surveys).get_mut(&id) {
            surveying.entries.extend(reply.entries);
        }
    }

    pub(super) fn survey_ended(&self, id: u64, complete: bool) {
        if let Some(Surveying { entries, done }) = lock(&self.surveys).remove(&id) {
            _ = done.send((entries, complete));
        }
    }
}

/// A survey that somebody waits for.
struct OpenSurvey<'a> {
    presence: &'a Presence,
    id: u64,
}

impl Drop for OpenSurvey<'_> {
    fn drop(&mut self) {
        lock(&self.presence.surveys).remove(&self.id);
        lock(&self.presence.node).close(self.id);
    }
}
