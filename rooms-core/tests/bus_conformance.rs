//! `LocalBus` keeps the contract of the bus.

use rooms_core::{
    LocalBus, bus_conformance,
    testing::bus_conformance::{Backplane, Cut},
};

struct Local(Vec<LocalBus>);

impl Backplane for Local {
    type Bus = LocalBus;

    fn peers(&self) -> &[LocalBus] {
        &self.0
    }

    async fn cut(&mut self) -> Cut {
        Cut::Impossible
    }

    async fn mend(&mut self) {}
}

fn local() -> Local {
    let first = LocalBus::new();
    Local(vec![first.peer(), first.peer(), first])
}

bus_conformance!(local());
