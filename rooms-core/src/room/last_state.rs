//! The last state of a room: this node's copy, and what the members are told when it changes.
//!
//! What the bus publishes has all of the state, and the change beside it. Members that have the state before are given the
//! change; those that have another one, or none, are given all of it. So a state that was lost on the way does no harm once
//! the next one is there, and until then the bus is asked for it wherever something may be missing.

use std::sync::Arc;

use super::{Effects, Ready, Room, State, log::Entry};
use crate::{
    bus::{BusError, KeptState, Position, StatePatch},
    envelope::BadPayload,
    json,
    lock::lock,
    message::Message,
    outbox::About,
    protocol::{self, Reason},
    room_key::RoomKey,
};

/// A state as members are told it. An event names its room, so it is the same for all of them.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    at: Position,
    whole: Message,
    /// The change, and the revision that it changes.
    patch: Option<(Position, Message)>,
}

impl Revision {
    /// Reads a state that the bus has, whose JSON may have so many bytes.
    pub(crate) fn read(
        room: &RoomKey,
        state: &KeptState,
        patch: Option<&StatePatch>,
        limit: usize,
    ) -> Result<Self, BadPayload> {
        let check = |json: &[u8]| -> Result<(), BadPayload> {
            if json.len() > limit {
                return Err(BadPayload::TooLong);
            }
            json::check(json)?;
            Ok(())
        };
        check(&state.state)?;
        // One that is not good is not missed: there is the whole.
        let patch = patch.filter(|patch| check(&patch.patch).is_ok());
        let patched = |patch: &StatePatch| {
            (patch.since, protocol::room_state_patch(room, patch.since, state.revision, &patch.patch))
        };
        Ok(Self {
            at: state.revision,
            whole: protocol::room_state(room, state.revision, &state.state),
            patch: patch.map(patched),
        })
    }
}

/// What this node knows of a room's state. A value without locks and clocks.
#[derive(Debug, Default)]
pub(super) struct LastState {
    known: Known,
    /// What the members have.
    given: Option<Position>,
    /// Somebody is to read once more.
    wanted: bool,
    /// One may be missing, for another reason than that somebody looks whether it is; and whether that was so when the read
    /// began.
    doubted: bool,
    asked_in_doubt: bool,
    /// Somebody reads, or is about to.
    running: bool,
    /// The read has failed, and the next one does not begin by itself.
    resting: bool,
    /// What was known when the read began.
    asked: Option<Position>,
    /// Reads that have failed while somebody waited to join, and failures one after another while all have joined.
    failures: u64,
    attempts: u32,
}

#[derive(Debug, Clone, Default)]
enum Known {
    /// Nobody has asked.
    #[default]
    Unread,
    /// There is none.
    Nothing,
    Revision(Arc<Revision>),
}

/// What follows from news of the state.
#[derive(Debug)]
enum News {
    None,
    /// It is another one now.
    Changed,
    /// It is to be read; `begin` where somebody has to begin.
    Read {
        begin: bool,
    },
    /// The members may have missed something, and nobody can be asked; or it is gone.
    Lost(Reason),
}

/// Failures in a row after which the members are told: as for a history.
const ATTEMPTS: u32 = 6;

impl LastState {
    fn position(&self) -> Option<Position> {
        match &self.known {
            Known::Revision(revision) => Some(revision.at),
            Known::Unread | Known::Nothing => None,
        }
    }

    fn arrive(&mut self, new: Arc<Revision>) -> News {
        let follows = match &self.known {
            Known::Unread | Known::Nothing => true,
            Known::Revision(old) if old.at.epoch() == new.at.epoch() => {
                if new.at.offset() <= old.at.offset() {
                    return News::None;
                }
                true
            }
            // Of another epoch, it is either the next one or from before something was lost.
            Known::Revision(old) => new.patch.as_ref().is_some_and(|(since, _)| *since == old.at),
        };
        if !follows {
            return self.doubt();
        }
        self.known = Known::Revision(new);
        News::Changed
    }

    fn want(&mut self) -> News {
        self.wanted = true;
        News::Read { begin: !std::mem::replace(&mut self.running, true) }
    }

    /// Wants a read as a state may be missing. Where it can't be read then, that is a loss; where somebody only looked it is
    /// none.
    fn doubt(&mut self) -> News {
        self.doubted = true;
        self.want()
    }

    fn begin(&mut self) -> bool {
        self.running = std::mem::take(&mut self.wanted);
        self.asked_in_doubt = std::mem::take(&mut self.doubted);
        self.resting = false;
        self.asked = self.position();
        self.running
    }

    fn read(&mut self, read: Option<Revision>) -> News {
        self.attempts = 0;
        let unchanged = self.asked == self.position();
        match (&self.known, read) {
            (Known::Unread, None) => self.known = Known::Nothing,
            (Known::Nothing, None) => {}
            (Known::Unread | Known::Nothing, Some(new)) => {
                self.known = Known::Revision(Arc::new(new));
                return News::Changed;
            }
            (Known::Revision(old), Some(new)) if old.at.epoch() == new.at.epoch() => {
                if old.at.offset() < new.at.offset() {
                    self.known = Known::Revision(Arc::new(new));
                    return News::Changed;
                }
            }
            // Something came while the bus was asked, and which of the two is newer is not known.
            (Known::Revision(_), _) if !unchanged => (self.wanted, self.doubted) = (true, true),
            (Known::Revision(_), Some(new)) => {
                self.known = Known::Revision(Arc::new(new));
                return News::Changed;
            }
            (Known::Revision(_), None) => {
                (self.known, self.given) = (Known::Nothing, None);
                return News::Lost(Reason::Epoch);
            }
        }
        News::None
    }

    fn failed(&mut self, down: bool) -> News {
        if matches!(self.known, Known::Unread) {
            self.failures += 1;
            (self.wanted, self.resting) = (false, true);
            return News::None;
        }
        self.doubted |= self.asked_in_doubt;
        self.attempts += u32::from(!down);
        if self.attempts < ATTEMPTS {
            self.wanted = true;
            return News::None;
        }
        // The next check asks again.
        (self.attempts, self.wanted) = (0, false);
        if std::mem::take(&mut self.doubted) { News::Lost(Reason::BusGap) } else { News::None }
    }

    /// All of the state, for one who joins.
    pub(super) fn whole(&self) -> Option<Message> {
        match &self.known {
            Known::Revision(revision) => Some(revision.whole.clone()),
            Known::Unread | Known::Nothing => None,
        }
    }
}

impl Room {
    pub(crate) fn keeps_state(&self) -> bool {
        self.kind.state.is_some()
    }

    /// All of the state, where there is one.
    pub(crate) fn whole_state(&self) -> Option<Message> {
        lock(&self.state).last_state.as_ref()?.whole()
    }

    /// Takes a state from the bus; `false` where the members are not told for want of space.
    pub(crate) fn arrive_state(&self, new: Revision) -> (bool, Effects) {
        let mut state = lock(&self.state);
        let Some(last) = &mut state.last_state else { return (true, Effects::default()) };
        let news = last.arrive(Arc::new(new));
        self.follow(&mut state, &news)
    }

    /// Looks whether a state was lost without a word, and whether the members have what is known.
    pub(crate) fn check_state(&self) -> Effects {
        let mut state = lock(&self.state);
        if state.members.is_empty() {
            return Effects::default();
        }
        let Some(last) = &mut state.last_state else { return Effects::default() };
        let news = last.want();
        let read = self.follow(&mut state, &news).1;
        let behind = self.give_state(&mut state).1;
        Effects { flush: read.flush || behind.flush, ..read }
    }

    /// A state may be missing.
    pub(super) fn gap_of_state(state: &mut State) -> Effects {
        match &mut state.last_state {
            Some(last) if last.running || !matches!(last.known, Known::Unread) => {
                Effects { read_state: matches!(last.doubt(), News::Read { begin: true }), ..Effects::default() }
            }
            _ => Effects::default(),
        }
    }

    /// Looks whether the state is known that one who joins is told; asks for it where not.
    pub(crate) fn look_at_state(&self, seen: &mut Option<u64>) -> (Ready, Effects) {
        let mut state = lock(&self.state);
        let Some(last) = &mut state.last_state else { return (Ready::Yes, Effects::default()) };
        if !matches!(last.known, Known::Unread) {
            return (Ready::Yes, Effects::default());
        }
        if seen.is_some_and(|seen| last.failures > seen) {
            return (Ready::Failed, Effects::default());
        }
        seen.get_or_insert(last.failures);
        // Of a read that is under way, whoever joins needs the end only.
        let begin = (!last.running || last.resting) && matches!(last.want(), News::Read { begin: true });
        (Ready::NotYet, Effects { read_state: begin, ..Effects::default() })
    }

    /// Whether the state is to be read; where not, whoever reads is done.
    pub(crate) fn begin_state_read(&self) -> bool {
        lock(&self.state).last_state.as_mut().is_some_and(|last| last.begin())
    }

    /// The state was read, or could not be.
    pub(crate) fn end_state_read(&self, outcome: Result<Option<Revision>, &BusError>) -> Effects {
        let (effects, waiting) = {
            let mut state = lock(&self.state);
            let Some(last) = &mut state.last_state else { return Effects::default() };
            let news = match outcome {
                Ok(read) => last.read(read),
                Err(error) => last.failed(matches!(error, BusError::Down)),
            };
            (self.follow(&mut state, &news).1, state.for_bus.take())
        };
        waiting.wake();
        effects
    }

    fn follow(&self, state: &mut State, news: &News) -> (bool, Effects) {
        match news {
            News::None => (true, Effects::default()),
            News::Changed => self.give_state(state),
            News::Read { begin } => (true, Effects { read_state: *begin, ..Effects::default() }),
            News::Lost(reason) => {
                let stands = state.stands();
                (true, self.lost(state, *reason, stands))
            }
        }
    }

    /// Gives the members the state that is known, if they have another one.
    fn give_state(&self, state: &mut State) -> (bool, Effects) {
        let State { members, log, last_state: Some(last), .. } = &mut *state else { return (true, Effects::default()) };
        let Known::Revision(revision) = &last.known else { return (true, Effects::default()) };
        if last.given == Some(revision.at) {
            return (true, Effects::default());
        }
        let patch = revision.patch.as_ref().filter(|(since, _)| last.given == Some(*since));
        let message = patch.map_or(&revision.whole, |(_, patch)| patch).clone();
        if !members.is_empty() && !log.fits(message.frame().len(), self.twice()) {
            // They get all of it with the next one, or with the next check.
            return (false, Effects::default());
        }
        last.given = Some(revision.at);
        if members.is_empty() {
            return (true, Effects::default());
        }
        let entry = Entry { multi: Some(message.clone()), state: true, ..Entry::new(message, None, About::Content) };
        (true, state.push(entry))
    }
}
