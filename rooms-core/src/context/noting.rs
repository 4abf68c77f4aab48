//! What is noted of things that go wrong, for whoever operates the node.

use std::fmt;

use super::Shared;
use crate::{
    auth::AuthError,
    close::{Close, CloseCode},
    handshake::Refusal,
    outbox::{GONE, Recipient},
    reports::{Incident, IncidentKind},
    room_key::RoomKey,
};

impl Shared {
    pub(super) fn note(&self, incident: Incident) {
        self.incidents.note(incident);
    }

    /// A connection of this user was not taken.
    pub(crate) fn note_refused(&self, user: &str, error: &impl fmt::Display, close: &Close) {
        self.note(Incident::new(IncidentKind::Refused, error.to_string()).of_user(user).with_code(close));
    }

    /// An upgrade was refused. What a token was refused for is noted where that was found.
    pub(crate) fn note_refused_upgrade(&self, refusal: &Refusal) {
        if !matches!(refusal, Refusal::Token | Refusal::Unavailable) {
            self.note(Incident::new(IncidentKind::UpgradeRefused, refusal.to_string()));
        }
    }

    /// A client was to send its token with its first message, and sent nothing of the kind.
    pub(crate) fn note_no_token(&self, close: &Close) {
        self.note(Incident::new(IncidentKind::BadToken, close.reason()).with_code(close));
    }

    pub(super) fn note_bad_token(&self, reason: &AuthError, user: Option<&str>) {
        let close = if *reason == AuthError::Unavailable { Close::UNAVAILABLE } else { Close::INVALID_TOKEN };
        let note = |kind| Incident::new(kind, reason.to_string()).with_code(&close);
        self.note(match user {
            Some(user) => note(IncidentKind::Refused).of_user(user),
            None => note(IncidentKind::BadToken),
        });
    }

    pub(crate) fn note_denied(&self, of: &Recipient, room: &RoomKey, error: &impl fmt::Display, close: &Close) {
        // The error names its room, and so does the incident.
        let text = error.to_string();
        let reason = text.strip_prefix(room.as_str()).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
        self.note(about(IncidentKind::Denied, of, reason).in_room(room).with_code(close));
    }

    /// The rule of a room was asked again, and says no now.
    pub(crate) fn note_put_out(&self, of: &Recipient, room: &RoomKey) {
        let words = "the rule was asked again, and does not allow it any more";
        self.note(about(IncidentKind::PutOut, of, words).in_room(room));
    }

    /// A connection ends.
    pub(crate) fn note_end(&self, of: &Recipient) {
        let close = of.told_close().unwrap_or(GONE);
        let by_client = matches!(close.code(), CloseCode::NORMAL | CloseCode::GOING_AWAY);
        let kind = if by_client { IncidentKind::Left } else { IncidentKind::Closed };
        self.note(about(kind, of, close.reason()).with_code(&close));
    }
}

fn about(kind: IncidentKind, of: &Recipient, reason: impl Into<Box<str>>) -> Incident {
    Incident::new(kind, reason).of_user(of.user()).of_connection(of.id())
}
