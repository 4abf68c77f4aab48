//! Keys that are fetched, and fetched again: at most one fetch at a time, and not often.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    hash::{BuildHasher as _, RandomState},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::time::{Instant, timeout};

use super::{
    super::AuthError,
    algorithm::{JwtAlgorithm, KeyType},
    jwk_set::JwkSet,
    key::JwtKey,
};
use crate::lock::{Mutex, lock};

/// How old keys may be before they are fetched anew, beside the tokens that are checked with the old ones. 10 minutes: so
/// long a key that the provider took back may still be good here.
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// The least time between two fetches. 30 s: whoever makes up key ids makes no more requests than that to the provider.
const PAUSE: Duration = Duration::from_secs(30);
/// The same while there are no keys at all. 5 s: until then nobody gets in.
const PAUSE_WITHOUT_KEYS: Duration = Duration::from_secs(5);
/// How long a key id that the provider did not know is not asked about again. 60 s: an old token that is tried for ever
/// causes no fetch each `PAUSE`.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// The most such ids. 256: ids that are made up push nothing out but one another, and `PAUSE` holds for them all.
const MAX_UNKNOWN: usize = 256;
/// The longest fetch: as long as a client waits for its upgrade, `Limits::handshake_timeout`.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

type Fetched = Result<JwkSet, Box<dyn Error + Send + Sync>>;
type Fetch = dyn Fn() -> BoxFuture<'static, Fetched> + Send + Sync;
type Flight = Shared<BoxFuture<'static, ()>>;

pub(super) struct KeySource {
    fetch: Box<Fetch>,
    state: Mutex<State>,
    hasher: RandomState,
}

#[derive(Default)]
struct State {
    /// The last good ones.
    keys: Option<Arc<[JwtKey]>>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
    /// The fetch that is under way, for all who wait for it.
    flight: Option<Flight>,
    /// Hashes of key ids that the provider did not know, and when.
    unknown: HashMap<u64, Instant>,
}

impl KeySource {
    pub(super) fn new<F, Fut, E>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<JwkSet, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let fetch = move || {
            let fetched = fetch();
            async move { fetched.await.map_err(Into::into) }.boxed()
        };
        Self { fetch: Box::new(fetch), state: Mutex::default(), hasher: RandomState::new() }
    }

    /// Keys among which is one for such a token; waits for a fetch where there is none yet and one may be made.
    ///
    /// The future may be dropped; the fetch goes on, and the next token finds what it brought.
    pub(super) async fn keys(
        self: &Arc<Self>,
        algorithm: JwtAlgorithm,
        id: Option<&str>,
    ) -> Result<Arc<[JwtKey]>, AuthError> {
        // No secret comes from a provider, so there is nothing to fetch.
        if matches!(algorithm.key_type(), KeyType::Secret { .. }) {
            return Err(AuthError::Algorithm);
        }
        // Hashed: ids are as long as a client likes.
        let hash = self.hasher.hash_one((algorithm, id));
        let now = Instant::now();
        let flight = {
            let mut state = lock(&self.state);
            if let Some(keys) = state.keys_for(algorithm, id) {
                if state.fetched_at.is_some_and(|at| now >= at + REFRESH) {
                    self.fly(&mut state, now);
                }
                return Ok(keys);
            }
            let known_unknown = state.unknown.get(&hash).is_some_and(|at| now < *at + UNKNOWN_FOR);
            if known_unknown { None } else { self.fly(&mut state, now) }
        };
        if let Some(flight) = flight {
            flight.await;
        }
        let mut state = lock(&self.state);
        match state.keys_for(algorithm, id) {
            Some(keys) => Ok(keys),
            // The token may be good, and nobody can tell.
            None if state.fetched_at.is_none() || state.fetched_at < state.tried_at => Err(AuthError::Unavailable),
            None => {
                if state.fetched_at >= Some(now) {
                    state.note_unknown(hash, now);
                }
                Err(AuthError::UnknownKey)
            }
        }
    }

    /// The keys that the provider has now, as far as it may be asked.
    pub(super) async fn newest(self: &Arc<Self>) -> Result<Arc<[JwtKey]>, AuthError> {
        let flight = self.fly(&mut lock(&self.state), Instant::now());
        if let Some(flight) = flight {
            flight.await;
        }
        let state = lock(&self.state);
        // Otherwise the token may be good, and nobody can tell.
        let keys = state.keys.as_ref().filter(|_| state.fetched_at >= state.tried_at);
        keys.map(Arc::clone).ok_or(AuthError::Unavailable)
    }

    /// The fetch that is under way, or a new one; `None` where it is too early for that.
    fn fly(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Flight> {
        if let Some(flight) = &state.flight {
            return Some(flight.clone());
        }
        let pause = if state.keys.is_some() { PAUSE } else { PAUSE_WITHOUT_KEYS };
        if state.tried_at.is_some_and(|at| now < at + pause) {
            return None;
        }
        state.tried_at = Some(now);
        // A task of its own: whoever waits may go away meanwhile.
        let task = tokio::spawn(Landing(Arc::clone(self)).fetch());
        let flight = task.map(drop).boxed().shared();
        state.flight = Some(flight.clone());
        Some(flight)
    }
}

impl State {
    fn keys_for(&self, algorithm: JwtAlgorithm, id: Option<&str>) -> Option<Arc<[JwtKey]>> {
        let keys = self.keys.as_ref()?;
        // One of this id and another algorithm is known, too: the token is bad, and a fetch would not help.
        let known = |key: &JwtKey| key.has_id(id) && (id.is_some() || key.algorithm() == algorithm);
        keys.iter().any(known).then(|| Arc::clone(keys))
    }

    fn take(&mut self, set: &JwkSet, now: Instant) {
        self.keys = Some(set.keys().into());
        self.fetched_at = Some(now);
        self.unknown = HashMap::new();
    }

    fn note_unknown(&mut self, hash: u64, now: Instant) {
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.retain(|_, at| now < *at + UNKNOWN_FOR);
        }
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.insert(hash, now);
        }
    }
}

/// A fetch under way. Dropping it clears the way for the next one, also where its runtime ends.
struct Landing(Arc<KeySource>);

impl Landing {
    async fn fetch(self) {
        // The call is inside, so that a panic in the closure itself is caught like one in its future.
        let fetched = AssertUnwindSafe(async { (self.0.fetch)().await }).catch_unwind();
        let fetched = timeout(FETCH_TIMEOUT, fetched).await;
        let kept = lock(&self.0.state).keys.is_some();
        match fetched {
            Ok(Ok(Ok(set))) => lock(&self.0.state).take(&set, Instant::now()),
            Ok(Ok(Err(error))) => {
                let error = with_causes(&*error);
                tracing::warn!(error, kept, "the keys of tokens can't be fetched; the last good ones are kept, if any");
            }
            Ok(Err(_)) => {
                tracing::error!(kept, "fetching the keys of tokens panicked; the last good ones are kept, if any");
            }
            Err(_) => {
                tracing::warn!(within = ?FETCH_TIMEOUT, kept, "the keys of tokens did not come; the last good ones are kept, if any");
            }
        }
    }
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Drop for Landing {
    fn drop(&mut self) {
        lock(&self.0.state).flight = None;
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySource")
    }
}
