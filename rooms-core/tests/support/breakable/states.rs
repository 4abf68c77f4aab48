//! The faults of states.

use std::time::Duration;

use async_trait::async_trait;
use rooms_core::{
    Bus,
    bus::{BusError, KeptState, NewState, Outcome, Position, States, Topic},
};

use super::{Fault::*, Peer};

#[async_trait]
impl States for Peer {
    async fn set_state(&self, topic: &Topic, mut new: NewState) -> Result<Outcome, BusError> {
        let current = self.inner.state(topic, new.keep).await?.map(|kept| kept.revision);
        match self.fault {
            LetsEverybodyWin => new.after = current,
            SetsAsAMessage => self.inner.publish(topic, new.state.clone()).await?,
            LeavesOutTheChange => new.patch = None,
            SetsInTheSameEpoch => {
                // As it told them.
                new.after = new.after.zip(current).map(|(told, is)| Position::new(is.epoch(), told.offset()));
            }
            _ => {}
        }
        Ok(match (self.fault, self.inner.set_state(topic, new).await?) {
            (SetsInTheSameEpoch, Outcome::Set(is)) => Outcome::Set(Position::new(1, is.offset())),
            (TellsNobodyWhatThereIs, Outcome::Conflict(_)) => Outcome::Conflict(None),
            (_, outcome) => outcome,
        })
    }

    async fn state(&self, topic: &Topic, keep: Duration) -> Result<Option<KeptState>, BusError> {
        let kept = self.inner.state(topic, keep).await?;
        if self.fault != KeepsTheFirst {
            return Ok(kept);
        }
        let mut first = self.common.first_state.lock().unwrap();
        *first = first.take().or(kept);
        Ok(first.clone())
    }
}
