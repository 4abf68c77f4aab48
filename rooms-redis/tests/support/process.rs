//! A node that can end at any point of what it does, as a process does.

#![allow(dead_code, reason = "each test file uses its part")]

use rooms_core::RoomManager;
use tokio::runtime::{Builder, Runtime};

use crate::{
    fleet::{Node, Sink, quick},
    proxy::Proxy,
};

/// A node with a runtime and a way to Redis of its own. When dropped all its tasks end where they are, and none is closed.
pub(crate) struct Process {
    pub(crate) node: Node,
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
}

impl Process {
    /// Also where Redis is away.
    pub(crate) fn start(proxy: &Proxy) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = {
            let _inside = runtime.enter();
            Node::over(quick(proxy.url()).start().unwrap())
        };
        Self { node, runtime: Some(runtime) }
    }

    /// Does something whose tasks are those of this process.
    pub(crate) fn inside<T>(&self, act: impl FnOnce(&RoomManager<Sink>) -> T) -> T {
        let _inside = self.runtime.as_ref().unwrap().enter();
        act(&self.node.rooms)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
