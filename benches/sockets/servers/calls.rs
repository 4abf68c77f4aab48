//! Calls of the library that the server makes while it fans out, and how long each took.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use rooms::{RoomKey, RoomManager};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::library::inside;
use crate::{Result, measure::Latency};

/// Between two calls: often enough for some thousands of them, seldom enough to be no load.
const EVERY: Duration = Duration::from_millis(1);

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    /// A join of the room that is measured.
    Join,
    /// A leave of it.
    Leave,
    /// A join of a room that nobody is in: the bus is asked.
    JoinNew,
    /// A broadcast to another room.
    Publish,
}

/// The times so far, in microseconds.
#[derive(Clone)]
pub(super) struct Times(Arc<Mutex<Histogram<u64>>>);

impl Times {
    /// The times since the last report, as a [`Latency`].
    pub(super) fn report(&self) -> String {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = Latency::of(&times);
        times.reset();
        json!(latency).to_string()
    }
}

/// Begins to call, if there is anything to call.
pub(super) fn begin(rooms: &RoomManager, call: Option<Call>) -> Result<Times> {
    let times = Times(Arc::new(Mutex::new(Histogram::new_with_bounds(1, 60_000_000, 3)?)));
    if let Some(call) = call {
        let (rooms, times) = (rooms.clone(), times.clone());
        tokio::spawn(async move {
            if let Err(error) = go_on(&rooms, call, &times).await {
                eprintln!("{error}");
            }
        });
    }
    Ok(times)
}

async fn go_on(rooms: &RoomManager, call: Call, times: &Times) -> Result<()> {
    let (busy, other) = (RoomKey::new("post", 0)?, RoomKey::new("other", "calls")?);
    let mut resident = inside(rooms, "resident")?;
    if call == Call::Publish {
        resident.join(&other).await?;
    }
    for number in 0_u64.. {
        let mut guest = inside(rooms, "guest")?;
        let fresh = RoomKey::new("other", format!("fresh{number}"))?;
        if call == Call::Leave {
            guest.join(&busy).await?;
        }
        tokio::time::sleep(EVERY).await;
        let begun = Instant::now();
        match call {
            Call::Join => _ = guest.join(&busy).await?,
            Call::JoinNew => _ = guest.join(&fresh).await?,
            Call::Leave => _ = guest.leave(&busy),
            Call::Publish => _ = rooms.broadcast(&other, &number).await?,
        }
        let took = u64::try_from(begun.elapsed().as_micros())?;
        times.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
    }
    Ok(())
}
