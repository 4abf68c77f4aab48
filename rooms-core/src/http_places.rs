//! The places of TCP connections that a server has accepted, and when they are free for others.

use std::{fmt, sync::Arc};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{
    counts::{Counts, Seat},
    limits::Limits,
    lock::{Mutex, lock},
    network::Network,
};

/// All places: `Limits::max_http_connections`, and of them `Limits::max_http_connections_per_ip` for one address.
#[derive(Debug)]
pub(crate) struct HttpPlaces {
    free: Arc<Semaphore>,
    by_address: Arc<Counts>,
    most_of_address: usize,
}

impl HttpPlaces {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(limits.max_http_connections.min(Semaphore::MAX_PERMITS))),
            by_address: Arc::default(),
            most_of_address: limits.max_http_connections_per_ip,
        })
    }

    /// Waits for a place that is free.
    pub(crate) async fn free(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => permit,
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes a free place for a connection; `None` where its address has as many as it may. One without an address, such as
    /// that of a named proxy, counts for none.
    pub(crate) fn take(self: &Arc<Self>, permit: OwnedSemaphorePermit, from: Option<Network>) -> Option<Occupied> {
        let held = Held { _seat: self.seat(from)?, _permit: permit };
        let state = Mutex::new(State { held: Some(held), freed: 0, over: false, turned_out: false });
        Some(Occupied(HttpPlace(Arc::new(Inner { places: Arc::clone(self), from, state, turned_out: Notify::new() }))))
    }

    fn take_at_once(&self, from: Option<Network>) -> Option<Held> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Held { _seat: self.seat(from)?, _permit: permit })
    }

    fn seat(&self, from: Option<Network>) -> Option<Option<Seat>> {
        match from {
            None => Some(None),
            Some(network) => self.by_address.seat(network, self.most_of_address).map(Some),
        }
    }
}

/// The place of one TCP connection among `Limits::max_http_connections`, which [`Ending::place`](crate::adapter::Ending::place) gives.
///
/// A server puts it into the extensions of each request of that connection. The extractors of event streams, and of
/// WebSockets over HTTP/2, look for it there: while one of these is counted in `Limits::max_connections`, their TCP connection
/// has no place besides, and another client can be accepted. Without it they keep their place, and as many of them as there are
/// places keep everybody else out.
///
/// Over HTTP/2 a connection has many streams. It is without a place from the first one that is counted until the last one has
/// ended. Then it takes a place again; where none is free it is [told to end](crate::adapter::Ending::begun), and dropped two seconds
/// later.
#[derive(Clone)]
pub struct HttpPlace(Arc<Inner>);

struct Inner {
    places: Arc<HttpPlaces>,
    from: Option<Network>,
    state: Mutex<State>,
    turned_out: Notify,
}

struct State {
    held: Option<Held>,
    /// What is counted elsewhere meanwhile.
    freed: usize,
    /// The connection has ended. An application may keep what was in a request for longer.
    over: bool,
    /// No place was free when it was to take one again.
    turned_out: bool,
}

struct Held {
    _seat: Option<Seat>,
    _permit: OwnedSemaphorePermit,
}

impl HttpPlace {
    /// Frees the place until what is returned is dropped; for as long as something on this connection counts as a connection to
    /// rooms.
    pub(crate) fn free(&self) -> Freed {
        let held = {
            let mut state = lock(&self.0.state);
            state.freed += 1;
            state.held.take()
        };
        // Outside of the lock, as it wakes whoever waits for it.
        drop(held);
        Freed(self.clone())
    }

    /// Resolves once the connection was to take its place again and none was free.
    pub(crate) async fn turned_out(&self) {
        let told = self.0.turned_out.notified();
        if !lock(&self.0.state).turned_out {
            told.await;
        }
    }

    fn take_again(&self) {
        let mut state = lock(&self.0.state);
        state.freed -= 1;
        if state.freed > 0 || state.over {
            return;
        }
        state.held = self.0.places.take_at_once(self.0.from);
        if state.held.is_none() {
            state.turned_out = true;
            drop(state);
            self.0.turned_out.notify_waiters();
        }
    }
}

impl fmt::Debug for HttpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPlace").field("is_held", &lock(&self.0.state).held.is_some()).finish_non_exhaustive()
    }
}

/// A place that others may have, until this is dropped.
#[derive(Debug)]
pub(crate) struct Freed(HttpPlace);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.take_again();
    }
}

/// A connection that has a place; dropped when it has ended, whoever still has a clone of its place.
#[derive(Debug)]
pub(crate) struct Occupied(HttpPlace);

impl Occupied {
    pub(crate) const fn place(&self) -> &HttpPlace {
        &self.0
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let held = {
            let mut state = lock(&self.0.0.state);
            state.over = true;
            state.held.take()
        };
        drop(held);
    }
}
