//! Which process runs on which core.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// The cores there are.
#[derive(Debug, Clone)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// Those that this process may use.
    pub(crate) fn allowed() -> Result<Self> {
        let set = sched_getaffinity(None)?;
        let cores: Vec<_> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
        match cores.len() {
            0 | 1 => Err("at least two cores are needed: one for the server, one for the load".into()),
            _ => Ok(Self(cores)),
        }
    }

    /// The last core is the load generator's, so that it takes no time from a server.
    pub(crate) fn of_load(&self) -> Self {
        Self(self.0.iter().rev().take(1).copied().collect())
    }

    /// The first cores are a server's; where there are not enough it has the load generator's, too.
    pub(crate) fn of_server(&self, count: usize) -> Self {
        Self(self.0.iter().take(count).copied().collect())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Pins this process, before it has other threads, and those it starts.
    pub(crate) fn stay(&self) -> Result<()> {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|core| set.set(*core));
        Ok(sched_setaffinity(None, &set)?)
    }

    pub(crate) fn argument(&self) -> String {
        self.0.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn parse(argument: &str) -> Result<Self> {
        Ok(Self(argument.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?))
    }
}
