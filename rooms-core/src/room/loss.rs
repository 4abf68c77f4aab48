//! That messages were lost: said once for all that is lost together, and once more if some had the word too early.

use super::{Effects, Room, State, log::Entry};
use crate::{
    bus::Position,
    lock::lock,
    outbox::About,
    protocol::{self, Reason},
};

/// What the members of a room are told of losses.
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// The place of the last word of it in the log, and its reason, if no message was kept since.
    told: Option<(u64, Reason)>,
    /// More was lost when somebody had been given that word already. One more is due with the next round, or before the next
    /// message, and not at once: a bus that outruns the room would have one for each chunk of members.
    again: Option<Reason>,
    /// Counts what no history gives again: messages that are not in it, and losses. Goes round: nobody is paused for four
    /// billion of them.
    fleeting: u32,
}

impl Loss {
    /// Something came, or was lost, that no history gives again.
    pub(super) const fn note_fleeting(&mut self) {
        self.fleeting = self.fleeting.wrapping_add(1);
    }

    /// How much of that there was.
    pub(super) const fn fleeting(&self) -> u32 {
        self.fleeting
    }
}

impl Room {
    /// The bus may have lost messages. A room with a history reads what is missing; in any other every member is told.
    pub(crate) fn gap(&self) -> Effects {
        let mut state = lock(&self.state);
        let of_state = Self::gap_of_state(&mut state);
        let State { members, replay, .. } = &mut *state;
        let effects = match replay {
            Some(replay) if replay.may_heal() => Effects { read: replay.doubt(), ..Effects::default() },
            // Whoever joins just now begins with what is read later.
            Some(_) if members.iter().flatten().all(|member| member.held().is_some()) => Effects::default(),
            _ => self.lost(&mut state, Reason::BusGap, None),
        };
        Effects { read_state: of_state.read_state, ..effects }
    }

    /// A message came that can't be given to the members: they are told.
    pub(crate) fn left_out(&self) -> Effects {
        let mut state = lock(&self.state);
        let stands = state.stands();
        self.lost(&mut state, Reason::BusGap, stands)
    }

    /// Notes that something is lost to every member that there is; they are given everything that comes after a position of
    /// the history, where that is known.
    pub(super) fn lost(&self, state: &mut State, reason: Reason, position: Option<Position>) -> Effects {
        if state.members.is_empty() {
            return Effects::default();
        }
        state.loss.note_fleeting();
        match state.loss.told {
            // The word of it is still ahead of everybody. Its position has to hold for all that is lost.
            Some((at, first)) if state.ahead <= at => {
                if self.has_history() {
                    state.log.replace(at, self.word_of_loss(first, position));
                }
                Effects::default()
            }
            Some(_) if !state.log.is_empty() => {
                state.loss.again = Some(reason);
                Effects::default()
            }
            _ => {
                state.loss.told = Some((state.log.head(), reason));
                self.count_loss(reason);
                Effects { lost: Some(reason), ..state.push(self.word_of_loss(reason, position)) }
            }
        }
    }

    /// A message is kept next: a word that is due comes before it, and what is lost after it is another loss.
    pub(super) fn say_before(&self, state: &mut State, stands: Option<Position>) {
        self.say_again(state, stands);
        state.loss.told = None;
    }

    /// The word that is due with the next round or before the next message, of the newest of those losses.
    pub(super) fn say_again(&self, state: &mut State, stands: Option<Position>) {
        if let Some(reason) = state.loss.again.take() {
            state.loss.told = Some((state.log.head(), reason));
            self.count_loss(reason);
            state.log.push(self.word_of_loss(reason, stands));
        }
    }

    fn word_of_loss(&self, reason: Reason, position: Option<Position>) -> Entry {
        Entry::new(protocol::resync(&self.key, reason, position), None, About::Loss(position))
    }

    fn count_loss(&self, reason: Reason) {
        self.kind.metrics.resyncs.count(reason.word());
    }
}

impl State {
    /// Where the members are in the history, once they have what is in the log; `None` where nobody knows.
    pub(super) fn stands(&self) -> Option<Position> {
        self.replay.as_ref()?.head()
    }
}

#[cfg(test)]
mod tests;
