//! Where the server of a link is, and how a connection to it is made.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use redis::{Client, Pipeline, PushInfo, Value, aio::MultiplexedConnection};
use tokio::time::Instant;

use crate::{
    access::{Access, times},
    fault::Fault,
    limits::RedisLimits,
    lock::lock,
    sentinel::Sentinels,
};

/// What tells a master from a replica. `ROLE` says the same, but is a right of its own that services take away; without
/// `HELLO` there is no RESP3, and so no connection of ours.
const ROLE_QUESTION: &str = "HELLO";

/// RESP3, which the connection speaks already.
const PROTOCOL: u8 = 3;

/// One server. Its address and password are in no `Debug` and in no log.
pub(crate) struct Server {
    place: Place,
    limits: RedisLimits,
    /// It said once that it is a master.
    was_master: AtomicBool,
    /// When it was asked last, where that is not each time.
    asked: Mutex<Option<Instant>>,
}

pub(crate) enum Place {
    /// Always the same address. A replica that was one from the beginning is as good as a master, if all are there; one
    /// that was a master is not where the others are any more.
    Fixed(Client),
    /// A master of a cluster. As a replica it would pass on what is published, and promise nothing.
    Master(Client),
    /// Where the sentinels say, asked at every connection.
    Watched { sentinels: Sentinels, access: Box<Access> },
}

impl Server {
    pub(crate) fn new(place: Place, limits: &RedisLimits) -> Self {
        Self { place, limits: limits.clone(), was_master: AtomicBool::new(false), asked: Mutex::default() }
    }

    /// How many connections one attempt may take, one after the other.
    pub(crate) fn steps(&self) -> usize {
        match &self.place {
            Place::Fixed(_) | Place::Master(_) => 1,
            // Each of the sentinels, and whom it names.
            Place::Watched { sentinels, .. } => 2 * sentinels.count(),
        }
    }

    /// Connects, as a client of that name.
    ///
    /// Every push is given to `on_push`, in the task that reads from the server. That task drops it when the connection
    /// ends, whatever the reason; so what `on_push` owns tells by its own end that the connection is gone.
    pub(crate) async fn open(
        &self,
        name: &str,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, Fault> {
        let on_push = Arc::new(on_push);
        match &self.place {
            Place::Fixed(client) | Place::Master(client) => self.open_at(client, name, on_push).await,
            Place::Watched { sentinels, access } => self.open_watched(sentinels, access, name, on_push).await,
        }
    }

    async fn open_watched(
        &self,
        sentinels: &Sentinels,
        access: &Access,
        name: &str,
        on_push: Arc<impl Fn(PushInfo) + Send + Sync + 'static>,
    ) -> Result<MultiplexedConnection, Fault> {
        let (mut fault, mut tried) = (Fault::NoMaster(None), Vec::new());
        for place in sentinels.in_turn() {
            let server = match sentinels.ask(place).await {
                Ok(server) if tried.contains(&server) => continue,
                Ok(server) => server,
                Err(error) => {
                    fault = if tried.is_empty() { error } else { fault };
                    continue;
                }
            };
            match self.open_at(&access.client_at(server.clone())?, name, Arc::clone(&on_push)).await {
                Ok(connection) => {
                    sentinels.ask_first(place);
                    return Ok(connection);
                }
                // Another sentinel may know better: one that was cut off from the others names the old master.
                Err(error) => fault = error,
            }
            tried.push(server);
        }
        Err(fault)
    }

    async fn open_at(
        &self,
        client: &Client,
        name: &str,
        on_push: Arc<impl Fn(PushInfo) + Send + Sync + 'static>,
    ) -> Result<MultiplexedConnection, Fault> {
        let config = times(&self.limits).set_push_sender(move |push| {
            on_push(push);
            Ok::<(), Infallible>(())
        });
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.map_err(Fault::connecting)?;
        let mut first = redis::pipe();
        first.cmd("CLIENT").arg("SETNAME").arg(name).cmd(ROLE_QUESTION).arg(PROTOCOL);
        let answers = connection.send_packed_commands(&first, 0, 2).await.map_err(Fault::connecting)?;
        // Whatever the answer to the name is: without one the connection is as good. Managed services disable `CLIENT` in
        // many ways: with an ACL, with `rename-command`, or in a proxy with words of its own.
        let [_named, role] = &*answers else { return Err(Fault::OutOfStep) };
        self.check(role)?;
        Ok(connection)
    }

    /// Adds the question whether this is the right server still, where that is in doubt; [`check`](Self::check) reads
    /// the answer.
    ///
    /// A server that was demoted goes on taking publications, and carries them to whoever is left on it, so that a probe
    /// comes back. Where the publisher leaves it, a probe on the new master reaches nobody, and the subscriber leaves too.
    pub(crate) fn add_check(&self, pipeline: &mut Pipeline) -> bool {
        let due = match &self.place {
            // One that has no role, or was a replica from the beginning, is not asked again.
            Place::Fixed(_) => self.was_master.load(Ordering::Relaxed) && self.is_due(),
            Place::Master(_) | Place::Watched { .. } => true,
        };
        if due {
            pipeline.cmd(ROLE_QUESTION).arg(PROTOCOL);
        }
        due
    }

    /// Whether it is time to ask again, where no change is likely: with each probe, which is the least that is published.
    fn is_due(&self) -> bool {
        let mut asked = lock(&self.asked);
        let due = asked.is_none_or(|asked| asked.elapsed() >= self.limits.probe_interval / 2);
        if due {
            *asked = Some(Instant::now());
        }
        due
    }

    pub(crate) fn check(&self, answer: &Value) -> Result<(), Fault> {
        let role = role(answer);
        if role == Some(b"master") {
            self.was_master.store(true, Ordering::Relaxed);
            return Ok(());
        }
        match (&self.place, role) {
            // Some servers that speak the protocol have no roles.
            (Place::Fixed(_), None) => Ok(()),
            (Place::Fixed(_), _) if !self.was_master.load(Ordering::Relaxed) => Ok(()),
            (_, None) => Err(Fault::NoRole),
            _ => Err(Fault::Replica),
        }
    }
}

/// The role in an answer to `HELLO`: `master` or `replica`.
fn role(answer: &Value) -> Option<&[u8]> {
    let Value::Map(fields) = answer else { return None };
    fields.iter().find(|(name, _)| text(name) == Some(b"role")).and_then(|(_, role)| text(role))
}

fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(text) => Some(text),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}
