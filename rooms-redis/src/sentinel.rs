//! Sentinels: who knows where the server is now.

use std::sync::atomic::{AtomicUsize, Ordering};

use redis::{AsyncConnectionConfig, Client};

use crate::fault::Fault;

/// Several sentinels that watch one service. They are asked anew at every connection.
pub(crate) struct Sentinels {
    sentinels: Vec<Client>,
    service: String,
    /// Which is asked first: the one whose word was good the last time.
    first: AtomicUsize,
    config: AsyncConnectionConfig,
}

impl Sentinels {
    pub(crate) fn new(sentinels: Vec<Client>, service: String, config: AsyncConnectionConfig) -> Self {
        Self { sentinels, service, first: AtomicUsize::new(0), config }
    }

    pub(crate) fn count(&self) -> usize {
        self.sentinels.len()
    }

    /// Their places, in the order in which they are to be asked.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = usize> {
        let (first, count) = (self.first.load(Ordering::Relaxed), self.sentinels.len());
        (0..count).map(move |number| (first + number) % count)
    }

    /// What this one said was so.
    pub(crate) fn ask_first(&self, place: usize) {
        self.first.store(place, Ordering::Relaxed);
    }

    /// Where the master is, by the sentinel at that place.
    pub(crate) async fn ask(&self, place: usize) -> Result<(String, u16), Fault> {
        let sentinel = self.sentinels.get(place).ok_or(Fault::NoMaster(None))?;
        match self.question(sentinel).await {
            Ok(master) => master.ok_or(Fault::NoMaster(None)),
            Err(Fault::Unreachable(cause)) => Err(Fault::NoMaster(Some(cause))),
            // A password that is wrong, for one.
            Err(fault) => Err(fault),
        }
    }

    async fn question(&self, sentinel: &Client) -> Result<Option<(String, u16)>, Fault> {
        let connection = sentinel.get_multiplexed_async_connection_with_config(&self.config).await;
        let mut connection = connection.map_err(Fault::connecting)?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let (command, right) = ("SENTINEL GET-MASTER-ADDR-BY-NAME", "+sentinel|get-master-addr-by-name");
        let answer = question.query_async(&mut connection).await;
        answer.map_err(|cause| Fault::denied("a sentinel", command, right, cause))
    }
}
