//! The lanes that there are, and who goes by which.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::task::AbortHandle;

use crate::{
    access::Address,
    cluster::View,
    lane::Lane,
    lock::lock,
    routes::{LaneId, Routes, SLOTS},
    server::{Place, Server},
    shared::Shared,
};

/// All lanes of a bus: one, or one for each node of a cluster that has slots.
pub(crate) struct Lanes {
    pub(crate) shared: Arc<Shared>,
    table: Mutex<Table>,
    run: Run,
}

/// Starts the two tasks of a lane, of which the second is given the number of its first connection. They use the lanes, and
/// so are not known here: a publication that was turned away goes on by another lane, which may have to be begun for it.
pub(crate) type Run = fn(&Arc<Lanes>, &Arc<Lane>, u64) -> [AbortHandle; 2];

struct Table {
    routes: Arc<Routes>,
    lanes: HashMap<LaneId, Arc<Lane>>,
    addresses: HashMap<Address, LaneId>,
    next: LaneId,
    closed: bool,
}

impl Lanes {
    pub(crate) fn new(shared: Arc<Shared>, routes: Arc<Routes>, run: Run) -> Arc<Self> {
        let (lanes, addresses) = (HashMap::new(), HashMap::new());
        let table = Mutex::new(Table { routes, lanes, addresses, next: 0, closed: false });
        Arc::new(Self { shared, table, run })
    }

    /// The one lane for all channels.
    pub(crate) fn start_one(self: &Arc<Self>, server: Server) {
        lock(&self.table).start(self, String::new(), server);
        self.shared.status.set_complete(true);
    }

    /// How many connections it may take to be connected, one after the other.
    pub(crate) fn steps(&self) -> usize {
        let lane = self.all().iter().map(|lane| lane.server.steps()).max().unwrap_or(1);
        lane + self.shared.nodes.as_ref().map_or(0, |nodes| nodes.count())
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&lock(&self.table).routes)
    }

    pub(crate) fn by_channel(&self, channel: &str) -> Option<Arc<Lane>> {
        let table = lock(&self.table);
        table.lanes.get(&table.routes.lane(channel)?).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Lane>> {
        lock(&self.table).lanes.values().cloned().collect()
    }

    /// The cluster is as this view says. Lanes that have no slots any more are given up.
    pub(crate) fn set(self: &Arc<Self>, view: &View) {
        let shared = &self.shared;
        let mut table = lock(&self.table);
        let mut slots = vec![None; usize::from(SLOTS)];
        for (range, address) in &view.slots {
            let Some(lane) = table.lane(self, address) else { return };
            let (first, last) = (usize::from(*range.start()), usize::from(*range.end()));
            for slot in slots.iter_mut().take(last + 1).skip(first) {
                *slot = Some(lane);
            }
        }
        let gone: Vec<LaneId> = table.lanes.keys().filter(|lane| !slots.contains(&Some(**lane))).copied().collect();
        table.route(shared, slots);
        for id in gone {
            table.addresses.retain(|_, lane| *lane != id);
            if let Some(lane) = table.lanes.remove(&id) {
                lane.stop();
                shared.subscriptions.close_lane(id);
                shared.status.close_lane(id);
            }
        }
    }

    /// Servers have said that these slots are elsewhere.
    pub(crate) fn patch(self: &Arc<Self>, moves: &[(u16, Address)]) {
        let mut table = lock(&self.table);
        let Routes::Slots(mut slots) = (*table.routes).clone() else { return };
        for (slot, address) in moves {
            let Some(lane) = table.lane(self, address) else { return };
            if let Some(slot) = slots.get_mut(usize::from(*slot)) {
                *slot = Some(lane);
            }
        }
        table.route(&self.shared, slots);
    }

    pub(crate) fn stop(&self) {
        let mut table = lock(&self.table);
        table.closed = true;
        for lane in table.lanes.values() {
            lane.stop();
        }
    }
}

impl Table {
    /// Begins a lane.
    fn start(&mut self, all: &Arc<Lanes>, host: String, server: Server) -> LaneId {
        let id = self.next;
        self.next += 1;
        let lane = Arc::new(Lane::new(&all.shared, id, host, server));
        let generation = all.shared.status.open_lane(id);
        lane.keep((all.run)(all, &lane, generation));
        self.lanes.insert(id, lane);
        id
    }

    /// The lane to a node, which is begun if there is none; `None` after the end.
    fn lane(&mut self, all: &Arc<Lanes>, address: &Address) -> Option<LaneId> {
        if self.closed {
            return None;
        }
        if let Some(id) = self.addresses.get(address) {
            return Some(*id);
        }
        let nodes = all.shared.nodes.as_ref();
        let client = nodes.map(|nodes| nodes.access().client_at(address.clone()))?.ok()?;
        let id = self.start(all, address.0.clone(), Server::new(Place::Master(client), &all.shared.limits));
        self.addresses.insert(address.clone(), id);
        Some(id)
    }

    fn route(&mut self, shared: &Shared, slots: Vec<Option<LaneId>>) {
        self.routes = Arc::new(Routes::Slots(slots));
        shared.subscriptions.reroute(Arc::clone(&self.routes));
        shared.status.set_complete(self.routes.is_complete());
    }
}
