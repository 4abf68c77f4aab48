//! A receiver in front of the real one, for the faults of hearing.

use std::sync::{Arc, Mutex};

use rooms_core::bus::{BusEvent, BusReceiver};

use super::Fault::{self, *};

pub(crate) struct Ear {
    pub(crate) inner: Arc<dyn BusReceiver>,
    pub(crate) fault: Fault,
    pub(crate) number: usize,
    pub(crate) held: Mutex<Option<BusEvent>>,
}

impl BusReceiver for Ear {
    fn event(&self, event: BusEvent) {
        if self.fault == SetsSilently && matches!(event, BusEvent::State { .. }) {
            return;
        }
        let BusEvent::Message { payload, position, .. } = &event else { return self.inner.event(event) };
        match self.fault {
            AppendsSilently | PublishesWithoutAPosition if position.is_some() => {}
            DoesNotHearItself if payload.starts_with(self.number.to_string().as_bytes()) => {}
            HearsAnotherOrder if self.number == 2 => {
                let held = self.held.lock().unwrap().replace(event);
                if let Some(held) = held {
                    let latest = self.held.lock().unwrap().take();
                    self.inner.event(latest.unwrap());
                    self.inner.event(held);
                }
            }
            DeliversTwice => {
                self.inner.event(event.clone());
                self.inner.event(event);
            }
            _ => self.inner.event(event),
        }
    }
}
