//! The faults of a history.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus,
    bus::{Appended, BusError, BusEvent, Excerpt, History, IdempotencyKey, Position, ReadFrom, Retention, Topic},
};

use super::{Fault::*, Peer};

#[async_trait]
impl History for Peer {
    async fn append(&self, topic: &Topic, payload: Bytes, retention: Retention) -> Result<Position, BusError> {
        let retention = self.believed(retention);
        if self.common.away.load(Ordering::Relaxed) {
            match self.fault {
                AppendsWhatItCalledDown => self.common.appended.lock().unwrap().push((topic.clone(), payload)),
                LosesAppends => {
                    let head = self.inner.read(topic, ReadFrom::Newest(0), retention).await?.head;
                    return Ok(Position::new(head.epoch(), head.offset()));
                }
                _ => {}
            }
            return Err(BusError::Down);
        }
        if self.fault == PublishesWithoutAPosition {
            // What is heard of the rest is left out by the ear.
            self.inner.publish(topic, payload.clone()).await?;
        }
        let position = self.inner.append(topic, payload, retention).await?;
        let offset = position.offset() + u64::from(self.fault == AnswersAnotherPosition);
        Ok(self.told(Position::new(position.epoch(), offset)))
    }

    async fn append_once(
        &self,
        topic: &Topic,
        payload: Bytes,
        retention: Retention,
        key: &IdempotencyKey,
    ) -> Result<Appended, BusError> {
        let of = match self.fault {
            HasKeysOfAllTopics => Some(None),
            KeepsKeysForEver => Some(Some(topic.clone())),
            _ => None,
        };
        let of = of.map(|topic| (topic, key.to_string()));
        if let Some(before) = of.as_ref().and_then(|of| self.common.keys.lock().unwrap().get(of).copied()) {
            return Ok(Appended::Before(before));
        }
        if self.fault == IgnoresKeys {
            return self.append(topic, payload, retention).await.map(Appended::Now);
        }
        let appended = self.inner.append_once(topic, payload.clone(), retention, key).await?;
        if let Some(of) = of {
            self.common.keys.lock().unwrap().insert(of, appended.position());
        }
        Ok(match (self.fault, appended) {
            (PublishesRepetitions, Appended::Before(position)) => {
                self.say(BusEvent::message_at(topic.clone(), payload, position));
                appended
            }
            (HidesRepetitions, appended) => Appended::Now(appended.position()),
            (AnswersRepetitionsWithTheHead, Appended::Before(_)) => {
                Appended::Before(self.inner.read(topic, ReadFrom::Newest(0), retention).await?.head)
            }
            (_, appended) => appended,
        })
    }

    async fn read(&self, topic: &Topic, from: ReadFrom, retention: Retention) -> Result<Excerpt, BusError> {
        if self.common.away.load(Ordering::Relaxed) {
            return Err(BusError::Down);
        }
        let retention = self.believed(retention);
        let head = self.inner.read(topic, ReadFrom::Newest(0), retention).await?.head;
        let from = match (self.fault, from) {
            (TakesForeignPositions, ReadFrom::After(foreign)) => {
                ReadFrom::After(Position::new(head.epoch(), foreign.offset().min(head.offset())))
            }
            (GoesOnInTheSameEpoch, ReadFrom::After(told)) => {
                ReadFrom::After(Position::new(head.epoch(), told.offset()))
            }
            (_, from) => from,
        };
        let Excerpt { head, mut messages, mut ages, .. } = self.inner.read(topic, from, retention).await?;
        match self.fault {
            ReadsWithAHole if messages.len() > 2 => _ = messages.remove(1),
            ReadsBehind => _ = messages.pop(),
            TellsNoAges => ages.clear(),
            _ => {}
        }
        Ok(Excerpt::new(self.told(head), messages).with_ages(ages))
    }
}

impl Peer {
    /// The retention that a bus keeps to that overlooks one of its bounds.
    fn believed(&self, retention: Retention) -> Retention {
        let all = Retention::messages(Retention::MAX_MESSAGES).age(Retention::MAX_AGE).bytes(Retention::MAX_BYTES);
        match self.fault {
            IgnoresTheNumber => all.age(retention.max_age()).bytes(retention.max_bytes()),
            IgnoresTheBytes => Retention::messages(retention.max_messages()).age(retention.max_age()),
            IgnoresTheAge => Retention::messages(retention.max_messages()).bytes(retention.max_bytes()),
            _ => retention,
        }
    }

    fn told(&self, position: Position) -> Position {
        if self.fault == GoesOnInTheSameEpoch { Position::new(1, position.offset()) } else { position }
    }
}
