//! What somebody else has a connection do, and what goes on beside its commands.

use super::{End, Session, Source, work::Asked};
use crate::{
    auth::AuthError,
    close::Close,
    connection::{Beside, Leave, NoRefresh, Refreshed},
    join_options::JoinOptions,
    message::Form,
    outbox::{Order, Waiting},
    protocol::{self, Departure, ErrorCode, Fault, Ref},
    room_key::RoomKey,
};

const UNDER_WAY: Fault = Fault::new(ErrorCode::Unavailable, "another token is being checked");
const UNCHECKED: Fault = Fault::new(ErrorCode::Unavailable, "the token can't be checked now; try again later");
const BAD_TOKEN: Fault = Fault::new(ErrorCode::BadToken, "the token is not good");
const OTHER_USER: Fault = Fault::new(ErrorCode::BadToken, "the token is of another user, or names none");

impl<R: Source> Session<R> {
    /// Does what others left to do.
    pub(super) fn obey(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Enter(room) if self.form() == Form::Multi => self.connection.is_to_enter(room),
                Order::Leave(room) if self.form() == Form::Multi => self.put_out(&room, &Departure::Left),
                // They are for one room, which is not left without the connection.
                Order::Enter(_) | Order::Leave(_) => {}
                Order::Kick(room, words) => self.put_out(&room, &Departure::Kicked(words)),
                Order::Recheck(of) => {
                    // A join that was asked about before this is asked about again when it is there.
                    if let Some(work) = &mut self.work {
                        work.as_mut().recheck(of.as_ref());
                    }
                    self.connection.begin_recheck(of.as_ref());
                }
            }
        }
    }

    /// Leaves a room, joined or joining, and tells the client why. It is the end of a connection that is for this room alone,
    /// and of an event stream that is in no other one and gets into none.
    pub(super) fn put_out(&mut self, room: &RoomKey, departure: &Departure) {
        self.connection.is_not_to_enter(room);
        let joining = self.work.take_if(|work| work.joins(room));
        let how = if *departure == Departure::Left { Leave::Member } else { Leave::Removed };
        if self.form() != Form::Multi {
            let is_here = self.connection.rooms().any(|joined| joined == room);
            if is_here || joining.is_some() {
                self.connection.recipient().remove(close_of(departure), Waiting::Flush);
            }
            return;
        }
        let was_joining = joining.is_some();
        // A join that was under way has its answer.
        if let Some(refusal) = joining.and_then(|work| work.refusal()) {
            self.connection.send(&refusal);
        }
        let was_here = self.connection.leave_in(room, how);
        if was_here {
            self.connection.send(&protocol::put_out(room, departure));
        }
        // Whom the application has leave, it may have enter another room.
        if (was_here || was_joining) && *departure != Departure::Left {
            self.stream.note_put_out(Some(close_of(departure)));
        }
        self.end_without_rooms();
    }

    /// Ends an event stream that was put out of its last room, unless it may still get into one.
    pub(super) fn end_without_rooms(&mut self) {
        if self.connection.rooms().next().is_some() {
            self.stream.note_put_out(None);
        } else if self.next.is_none()
            && self.work.is_none()
            && !self.connection.has_rooms_to_enter()
            && let Some(close) = self.stream.last_word()
        {
            self.connection.recipient().remove(close, Waiting::Flush);
        }
    }

    /// Begins to enter the next room that the application wants it in, if any.
    pub(super) fn enter_next(&mut self) -> bool {
        let Some(room) = self.connection.next_to_enter() else { return false };
        if !self.connection.rooms().any(|joined| *joined == room) {
            self.connection.enters_unasked(&room);
            self.work = Some(self.join(room, JoinOptions::new(), Asked::ByServer));
        }
        true
    }

    /// Begins to check a new token; `false` where the client is told that it is not looked at.
    pub(super) fn refresh(&mut self, token: String, reference: Option<Ref>) -> bool {
        let Err((why, reference)) = self.connection.begin_refresh(token, reference) else { return true };
        let fault = match why {
            NoRefresh::UnderWay => UNDER_WAY,
            NoRefresh::TooSoon(wait) => {
                self.connection.shared().limiters.note_refusal();
                Fault::rate_limited("a token is refreshed every 5 seconds at most", wait)
            }
        };
        self.connection.send(&protocol::error(&fault, reference.as_ref()));
        false
    }

    pub(super) fn beside(&mut self, done: Beside) -> Result<(), End> {
        match done {
            Beside::Denied(room) => {
                self.connection.shared().note_put_out(self.connection.recipient(), &room);
                self.put_out(&room, &Departure::NotAllowed);
            }
            Beside::Refreshed(Refreshed { identity, reference }) => {
                let fault = match identity {
                    Ok(identity) => {
                        self.connection.renew(identity);
                        let answer = protocol::refreshed(self.connection.time_left(), reference.as_ref());
                        self.connection.send(&answer);
                        if let Some(work) = &mut self.work {
                            work.as_mut().recheck(None);
                        }
                        self.connection.begin_recheck(None);
                        return Ok(());
                    }
                    Err(AuthError::Revoked) => return Err(End::Closing(Close::REVOKED)),
                    Err(AuthError::Unavailable) => UNCHECKED,
                    Err(AuthError::Subject) => OTHER_USER,
                    Err(_) => BAD_TOKEN,
                };
                self.connection.send(&protocol::error(&fault, reference.as_ref()));
            }
        }
        Ok(())
    }
}

fn close_of(departure: &Departure) -> Close {
    match departure {
        Departure::Kicked(words) => Close::kicked(words),
        Departure::NotAllowed | Departure::Left => Close::NOT_ALLOWED,
    }
}
