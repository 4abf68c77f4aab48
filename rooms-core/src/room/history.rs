//! A room with a history: messages in the order of its log, and what one who joins is given of it.

use std::num::NonZeroU64;

use tokio::sync::futures::OwnedNotified;

use super::{
    Effects, Held, Room, State,
    log::Entry,
    logged::{Logged, Read},
    replay::{Arrived, Down, Lost, Need, Outcome, Ready, Replay, Seen},
};
use crate::{
    bus::{BusError, Position, ReadFrom},
    join_options::{JoinOptions, Since},
    limits::Limits,
    lock::lock,
    message::Message,
    outbox::{About, Recipient},
    protocol::{self, Reason},
};

/// What one who joins is told of the history, and what it is given of it.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    pub(super) position: Option<Position>,
    pub(super) recovered: Option<bool>,
    /// Why it is told to fetch.
    pub(super) reason: Option<Reason>,
    /// A `resync`, where it can't be given what it missed; then messages of the history.
    pub(super) first: Vec<Message>,
    /// What it has already of what was held for it.
    pub(super) has_up_to: u64,
    /// From this offset on there is no space for it yet; and the bytes of what it missed from there on.
    pub(super) left_out: Option<NonZeroU64>,
    pub(super) later: usize,
}

impl Room {
    pub(crate) fn has_history(&self) -> bool {
        self.kind.history.is_some()
    }

    /// Takes a message of the log from the bus; `false` where it was dropped for want of space. The span is closed once the
    /// members have it.
    pub(crate) fn arrive(&self, logged: Logged, fan_out: Option<Box<tracing::Span>>) -> (bool, Effects) {
        let mut state = lock(&self.state);
        let Some(replay) = &mut state.replay else { return (true, Effects::default()) };
        let known = replay.head().is_some();
        match replay.arrive(logged) {
            Arrived::Passes(logged) => {
                if !known {
                    state.begin_history(logged.before());
                }
                self.pass(&mut state, logged, fan_out)
            }
            Arrived::Jumps(logged) => {
                state.begin_history(logged.before());
                let told = self.lost(&mut state, Reason::BusGap, Some(logged.before()));
                let (kept, effects) = self.pass(&mut state, logged, fan_out);
                (kept, Effects { flush: told.flush || effects.flush, lost: told.lost.or(effects.lost), ..effects })
            }
            Arrived::Known => (true, Effects::default()),
            Arrived::Waits { read } => (true, Effects { read, ..Effects::default() }),
        }
    }

    /// Looks whether something came that this node was not told of.
    pub(crate) fn check(&self) -> Effects {
        let mut state = lock(&self.state);
        let State { members, replay, .. } = &mut *state;
        match replay {
            Some(replay) if !members.is_empty() && replay.may_heal() => {
                replay.trim();
                Effects { read: replay.want(false), ..Effects::default() }
            }
            _ => Effects::default(),
        }
    }

    /// Gives a message of the log to the members, or tells them that it can't be given to them.
    fn pass(&self, state: &mut State, logged: Logged, fan_out: Option<Box<tracing::Span>>) -> (bool, Effects) {
        if logged.left_out {
            return (true, self.lost(state, Reason::BusGap, Some(logged.position)));
        }
        let before = logged.before();
        let Some(content) = logged.content else { return (true, Effects::default()) };
        if state.members.is_empty() {
            return (true, Effects::default());
        }
        let (bare, positioned) = (content.bare().clone(), content.positioned().clone());
        if !state.log.fits(bare.frame().len(), self.twice()) {
            return (false, self.lost(state, Reason::BusGap, Some(logged.position)));
        }
        self.say_before(state, Some(before));
        let about = if logged.position.offset() == 0 { About::Content } else { About::Logged(logged.position) };
        let entry = Entry { multi: Some(positioned), fan_out, ..Entry::new(bare, content.except, about) };
        (true, state.push(entry))
    }

    /// Looks whether what one who joins needs is known; asks for it where not.
    pub(crate) fn look(&self, join: &JoinOptions, seen: &mut Option<Seen>) -> (Ready, Effects) {
        let since = join.since.and_then(Since::position);
        // One who is given nothing now needs to know where the log stands.
        let need = if join.paused { Need::default() } else { Need { since, newest: join.newest } };
        let mut state = lock(&self.state);
        let Some(replay) = &mut state.replay else { return (Ready::Yes, Effects::default()) };
        replay.trim();
        let seen = seen.get_or_insert(Seen { reads: replay.reads(), failures: replay.failures() });
        let (ready, wants) = replay.look(need, *seen);
        let read = ready == Ready::NotYet && replay.want_what(wants);
        (ready, Effects { read, ..Effects::default() })
    }

    /// Told whenever the history was read, or could not be.
    pub(crate) fn history_changed(&self) -> OwnedNotified {
        lock(&self.state).for_bus.wait()
    }

    /// What is to be read of the log; `None` once there is nothing, and whoever reads is done.
    pub(crate) fn begin_read(&self) -> Option<ReadFrom> {
        lock(&self.state).replay.as_mut()?.begin()
    }

    /// The log was read, or could not be.
    pub(crate) fn end_read(&self, outcome: Result<Read, &BusError>) -> Effects {
        let mut state = lock(&self.state);
        let Some(replay) = &mut state.replay else { return Effects::default() };
        let outcome = match outcome {
            Ok(read) => Some(replay.read(read)),
            Err(BusError::Down) => replay.failed(Down::Yes),
            Err(_) => replay.failed(Down::No),
        };
        let mut effects = Effects::default();
        if let Some(Outcome { passes, lost, begun }) = outcome {
            if let Some(begun) = begun {
                state.begin_history(begun);
            }
            if let Some(lost) = lost {
                let reason = match lost {
                    Lost::Missing(missing) => missing.into(),
                    Lost::Unread => Reason::BusGap,
                };
                let stands = passes.first().map(Logged::before).or_else(|| state.stands());
                let told = self.lost(&mut state, reason, stands);
                (effects.flush, effects.lost) = (effects.flush || told.flush, told.lost);
            }
            for logged in passes {
                let passed = self.pass(&mut state, logged, None).1;
                effects =
                    Effects { flush: effects.flush || passed.flush, lost: effects.lost.or(passed.lost), ..effects };
            }
        }
        state.wake_those_behind();
        let waiting = state.for_bus.take();
        drop(state);
        waiting.wake();
        effects
    }

    /// From where a member that is joining will be given everything, as far as is known now.
    pub(crate) fn joins_at(&self, slot: usize, join: &JoinOptions) -> Option<Position> {
        let mut state = lock(&self.state);
        let State { members, log, .. } = &mut *state;
        let member = members.get_mut(slot)?.as_mut()?;
        member.hold(log, &self.key, self.bounds());
        member.cursor = log.head();
        state.ahead = state.log.head();
        let State { members, replay: Some(replay), .. } = &*state else { return None };
        let member = members.get(slot)?.as_ref()?;
        let none = JoinOptions::new();
        let join = if join.paused { &none } else { join };
        self.resume(Some(replay), member.held()?, &member.recipient, join).position
    }

    /// What one who joins is told and given; what is held for it follows.
    pub(super) fn resume(&self, replay: Option<&Replay>, held: &Held, to: &Recipient, join: &JoinOptions) -> Resumed {
        let Some((replay, from)) = replay.and_then(|replay| Some((replay, held.from.or(replay.head())?))) else {
            // Nobody knows where the log stands, or there is none: who was away may have missed anything.
            let missed = join.since.is_some();
            let resync = missed.then(|| protocol::resync(&self.key, Reason::HistoryGap, None));
            return Resumed {
                recovered: missed.then_some(false),
                reason: missed.then_some(Reason::HistoryGap),
                first: resync.into_iter().collect(),
                ..Resumed::default()
            };
        };
        let bounds = self.bounds();
        let mut space = match held.as_it_reads {
            true => Space { messages: 0, bytes: 0 },
            false => Space {
                messages: (bounds.held_messages / 4 * 3).saturating_sub(held.messages.len()),
                bytes: (bounds.held_bytes / 4 * 3).saturating_sub(held.bytes),
            },
        };
        let message = |logged: &Logged| logged.for_one(to);
        let missed = join.since.map(|since| match since {
            Since::Nowhere => Err(Reason::Epoch),
            Since::Lost => Err(Reason::BusGap),
            Since::Position(since) => {
                let (mut first, mut left_out, mut later) = (Vec::new(), None, 0);
                for logged in replay.since(since, from).map_err(Reason::from)? {
                    let Some(message) = message(logged) else { continue };
                    if left_out.is_none() && space.take(&message) {
                        first.push(message);
                    } else {
                        left_out = left_out.or(NonZeroU64::new(logged.position.offset()));
                        later += message.frame().len();
                    }
                }
                if left_out.is_some() && !bounds.heals {
                    Err(Reason::HistoryGap)
                } else {
                    Ok((since, first, left_out, later))
                }
            }
        });
        match missed {
            Some(Ok((since, first, left_out, later))) => {
                let has_up_to = since.offset();
                Resumed {
                    position: Some(since),
                    recovered: Some(true),
                    first,
                    has_up_to,
                    left_out,
                    later,
                    ..Resumed::default()
                }
            }
            Some(Err(reason)) => {
                space = Space { messages: bounds.held_messages / 4 * 3, bytes: bounds.held_bytes / 4 * 3 };
                let mut resumed = self.newest(replay, from, &mut space, join.newest, message);
                (resumed.recovered, resumed.reason) = (Some(false), Some(reason));
                resumed.first.insert(0, protocol::resync(&self.key, reason, resumed.position));
                resumed
            }
            None => self.newest(replay, from, &mut space, join.newest, message),
        }
    }

    /// Records what one who was there before is given.
    pub(super) fn note_resumed(&self, recovered: Option<bool>, reason: Option<Reason>) {
        let metrics = &self.kind.metrics;
        if let Some(recovered) = recovered {
            metrics.replays.count(if recovered { "recovered" } else { "lost" });
        }
        if let Some(reason) = reason {
            metrics.resyncs.count(reason.word());
        }
    }

    fn newest(
        &self,
        replay: &Replay,
        from: Position,
        space: &mut Space,
        count: usize,
        message: impl Fn(&Logged) -> Option<Message>,
    ) -> Resumed {
        let (mut first, mut offset) = (Vec::new(), from.offset());
        for logged in replay.newest(from) {
            // What follows the position is complete, so it begins behind what can't be given.
            if first.len() >= count || logged.left_out {
                break;
            }
            if let Some(message) = message(logged) {
                if !space.take(&message) {
                    break;
                }
                first.push(message);
            }
            offset = logged.position.offset().saturating_sub(1);
        }
        first.reverse();
        Resumed { position: Some(Position::new(from.epoch(), offset)), first, ..Resumed::default() }
    }
}

impl State {
    /// Where the room stands in its history is known now: those who entered before are given everything from here on.
    fn begin_history(&mut self, at: Position) {
        let joining = self.members.iter_mut().flatten().filter_map(|member| member.seldom.as_mut()?.held.as_mut());
        joining.for_each(|held| held.from = held.from.or(Some(at)));
    }
}

/// What may be given to one who joins, beside what is held for it: three quarters of an outbox, so that there is room for
/// what follows.
struct Space {
    messages: usize,
    bytes: usize,
}

impl Space {
    fn take(&mut self, message: &Message) -> bool {
        let fits = self.messages > 0 && message.frame().len() <= self.bytes;
        if fits {
            self.messages -= 1;
            self.bytes -= message.frame().len();
        }
        fits
    }
}

/// A replay for a kind with a history.
pub(super) fn replay_of(room: &super::Kind, limits: &Limits) -> Option<Box<Replay>> {
    let bounds = super::replay::Waiting { messages: limits.max_log_messages, bytes: limits.max_log_bytes };
    room.history.map(|retention| Box::new(Replay::new(retention, bounds)))
}
