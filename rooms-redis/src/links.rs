//! The links that there are, and who goes by which.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::task::AbortHandle;

use crate::{
    access::Address,
    cluster::View,
    link::Link,
    lock::lock,
    routes::{LinkId, Routes, SLOTS},
    server::{Place, Server},
    shared::Shared,
};

/// All links of a bus: one, or one for each node of a cluster that has slots.
pub(crate) struct Links {
    pub(crate) shared: Arc<Shared>,
    table: Mutex<Table>,
    run: Run,
}

/// Starts the two tasks of a link, of which the second is given the number of its first connection. They use the links, and
/// so are not known here: a publication that was turned away goes on by another link, which may have to be begun for it.
pub(crate) type Run = fn(&Arc<Links>, &Arc<Link>, u64) -> [AbortHandle; 2];

struct Table {
    routes: Arc<Routes>,
    links: HashMap<LinkId, Arc<Link>>,
    addresses: HashMap<Address, LinkId>,
    next: LinkId,
    closed: bool,
}

impl Links {
    pub(crate) fn new(shared: Arc<Shared>, routes: Arc<Routes>, run: Run) -> Arc<Self> {
        let (links, addresses) = (HashMap::new(), HashMap::new());
        let table = Mutex::new(Table { routes, links, addresses, next: 0, closed: false });
        Arc::new(Self { shared, table, run })
    }

    /// The one link for all channels.
    pub(crate) fn start_one(self: &Arc<Self>, server: Server) {
        lock(&self.table).start(self, None, server);
        self.shared.status.set_complete(true);
    }

    /// How many connections it may take to be connected, one after the other.
    pub(crate) fn steps(&self) -> usize {
        let link = self.all().iter().map(|link| link.server.steps()).max().unwrap_or(1);
        link + self.shared.nodes.as_ref().map_or(0, |nodes| nodes.count())
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&lock(&self.table).routes)
    }

    pub(crate) fn by_channel(&self, channel: &str) -> Option<Arc<Link>> {
        let table = lock(&self.table);
        table.links.get(&table.routes.link(channel)?).cloned()
    }

    /// The link to a node of the cluster, if there is one.
    pub(crate) fn at(&self, address: &Address) -> Option<Arc<Link>> {
        let table = lock(&self.table);
        table.links.get(table.addresses.get(address)?).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        lock(&self.table).links.values().cloned().collect()
    }

    /// The cluster is as this view says. Links that have no slots any more are given up.
    pub(crate) fn set(self: &Arc<Self>, view: &View) {
        let shared = &self.shared;
        let mut table = lock(&self.table);
        let mut slots = vec![None; usize::from(SLOTS)];
        for (range, address) in &view.slots {
            let Some(link) = table.link(self, address) else { return };
            let (first, last) = (usize::from(*range.start()), usize::from(*range.end()));
            for slot in slots.iter_mut().take(last + 1).skip(first) {
                *slot = Some(link);
            }
        }
        let gone: Vec<LinkId> = table.links.keys().filter(|link| !slots.contains(&Some(**link))).copied().collect();
        table.route(shared, slots);
        for id in gone {
            table.addresses.retain(|_, link| *link != id);
            if let Some(link) = table.links.remove(&id) {
                link.stop();
                shared.subscriptions.close_link(id);
                shared.status.close_link(id);
            }
        }
    }

    /// Servers have said that these slots are elsewhere.
    pub(crate) fn patch(self: &Arc<Self>, moves: &[(u16, Address)]) {
        let mut table = lock(&self.table);
        let Routes::Slots(mut slots) = (*table.routes).clone() else { return };
        for (slot, address) in moves {
            let Some(link) = table.link(self, address) else { return };
            if let Some(slot) = slots.get_mut(usize::from(*slot)) {
                *slot = Some(link);
            }
        }
        table.route(&self.shared, slots);
    }

    pub(crate) fn stop(&self) {
        let mut table = lock(&self.table);
        table.closed = true;
        for link in table.links.values() {
            link.stop();
        }
    }
}

impl Table {
    /// Begins a link.
    fn start(&mut self, all: &Arc<Links>, address: Option<&Address>, server: Server) -> LinkId {
        let id = self.next;
        self.next += 1;
        let link = Arc::new(Link::new(&all.shared, id, address, server));
        let generation = all.shared.status.open_link(id);
        link.keep((all.run)(all, &link, generation));
        self.links.insert(id, link);
        id
    }

    /// The link to a node, which is begun if there is none; `None` after the end.
    fn link(&mut self, all: &Arc<Links>, address: &Address) -> Option<LinkId> {
        if self.closed {
            return None;
        }
        if let Some(id) = self.addresses.get(address) {
            return Some(*id);
        }
        let nodes = all.shared.nodes.as_ref();
        let client = nodes.map(|nodes| nodes.access().client_at(address.clone()))?.ok()?;
        let id = self.start(all, Some(address), Server::new(Place::Master(client), &all.shared.limits));
        self.addresses.insert(address.clone(), id);
        Some(id)
    }

    fn route(&mut self, shared: &Shared, slots: Vec<Option<LinkId>>) {
        self.routes = Arc::new(Routes::Slots(slots));
        shared.subscriptions.reroute(Arc::clone(&self.routes));
        shared.status.set_complete(self.routes.is_complete());
    }
}
