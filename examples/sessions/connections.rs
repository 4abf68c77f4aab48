//! The connections of each session, to end them with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rooms::{Close, CloseCode, HookError, Kind, Member};
use serde_json::Value;

/// The claim in which a connection has the id of its session.
pub(crate) const SESSION: &str = "session";

/// By the id of the session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<String, Vec<Member>>>>);

impl Connections {
    /// Somebody is about to connect with this session.
    pub(crate) fn begin(&self, session: &str) {
        self.all().entry(session.to_owned()).or_default();
    }

    /// Nobody connects after all.
    pub(crate) fn give_up(&self, session: &str) {
        let mut all = self.all();
        if all.get(session).is_some_and(Vec::is_empty) {
            all.remove(session);
        }
    }

    /// The session is over. 1008 is what a page without a token does not come back from.
    pub(crate) fn end(&self, session: &str) {
        let members = self.all().remove(session).unwrap_or_default();
        for member in members {
            member.close(Close::new(CloseCode::POLICY, "signed out"));
        }
    }

    /// Notes those who are in rooms of this kind. A client is in one room here.
    pub(crate) fn keep(&self, kind: Kind) -> Kind {
        let (joins, leaves) = (self.clone(), self.clone());
        kind.on_join(move |member| {
            let joined = joins.join(&member);
            async move { joined }
        })
        .on_leave(move |member| {
            leaves.leave(&member);
            async {}
        })
    }

    /// Refuses one whose session ended while it connected: its page comes back, and its cookie is not good any more.
    fn join(&self, member: &Member) -> Result<Value, HookError> {
        let session = session(member).ok_or(Close::INTERNAL)?;
        self.all().get_mut(&session).ok_or(HookError::unavailable())?.push(member.clone());
        Ok(Value::Null)
    }

    fn leave(&self, member: &Member) {
        let Some(session) = session(member) else { return };
        let mut all = self.all();
        let Some(members) = all.get_mut(&session) else { return };
        members.retain(|other| other.connection() != member.connection());
        if members.is_empty() {
            all.remove(&session);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Vec<Member>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn session(member: &Member) -> Option<String> {
    member.identity().claim(SESSION).ok().flatten()
}
