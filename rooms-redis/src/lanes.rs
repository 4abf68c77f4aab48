//! The lanes that there are, and who goes by which.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

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
    table: Mutex<Table>,
}

struct Table {
    routes: Arc<Routes>,
    lanes: HashMap<LaneId, Arc<Lane>>,
    addresses: HashMap<Address, LaneId>,
    next: LaneId,
    closed: bool,
}

impl Lanes {
    pub(crate) fn new(routes: Arc<Routes>) -> Self {
        let (lanes, addresses) = (HashMap::new(), HashMap::new());
        Self { table: Mutex::new(Table { routes, lanes, addresses, next: 0, closed: false }) }
    }

    /// The one lane for all channels.
    pub(crate) fn start_one(&self, shared: &Arc<Shared>, server: Server) {
        let mut table = lock(&self.table);
        let id = table.next;
        table.next += 1;
        table.lanes.insert(id, Lane::start(shared, id, String::new(), server));
        shared.status.set_complete(true);
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
    pub(crate) fn set(&self, shared: &Arc<Shared>, view: &View) {
        let mut table = lock(&self.table);
        let mut slots = vec![None; usize::from(SLOTS)];
        for (range, address) in &view.slots {
            let Some(lane) = table.lane(shared, address) else { return };
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
    pub(crate) fn patch(&self, shared: &Arc<Shared>, moves: &[(u16, Address)]) {
        let mut table = lock(&self.table);
        let Routes::Slots(mut slots) = (*table.routes).clone() else { return };
        for (slot, address) in moves {
            let Some(lane) = table.lane(shared, address) else { return };
            if let Some(slot) = slots.get_mut(usize::from(*slot)) {
                *slot = Some(lane);
            }
        }
        table.route(shared, slots);
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
    /// The lane to a node, which is begun if there is none; `None` after the end.
    fn lane(&mut self, shared: &Arc<Shared>, address: &Address) -> Option<LaneId> {
        if self.closed {
            return None;
        }
        if let Some(id) = self.addresses.get(address) {
            return Some(*id);
        }
        let client = shared.nodes.as_ref().map(|nodes| nodes.access().client_at(address.clone()))?.ok()?;
        let id = self.next;
        self.next += 1;
        let server = Server::new(Place::Master(client), &shared.limits);
        self.lanes.insert(id, Lane::start(shared, id, address.0.clone(), server));
        self.addresses.insert(address.clone(), id);
        Some(id)
    }

    fn route(&mut self, shared: &Shared, slots: Vec<Option<LaneId>>) {
        self.routes = Arc::new(Routes::Slots(slots));
        shared.subscriptions.reroute(Arc::clone(&self.routes));
        shared.status.set_complete(self.routes.is_complete());
    }
}
