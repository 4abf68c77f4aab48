//! One contender at its work.

use std::{thread::sleep, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    cores::Cores,
    load::{Load, Offer, Shape, open},
    process::Server,
    scenarios::{Contender, Figure, Work},
    servers::Setup,
};

/// Connections that share a room where nothing is published.
const ROOM: usize = 10;

/// What one run of one contender gave.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Measurement {
    /// Processor seconds of the server for a million deliveries, or connects.
    pub(crate) cpu: Option<f64>,
    pub(crate) deliveries_per_second: Option<f64>,
    /// What the clients read for each delivery, with whatever else the server said.
    pub(crate) bytes_per_delivery: Option<f64>,
    /// From publish to receipt, or of the calls, in microseconds.
    pub(crate) latency: Option<Latency>,
    /// Resident bytes of the server: before the first connection, with all of them and nothing to do, at most.
    pub(crate) start: usize,
    pub(crate) idle: usize,
    pub(crate) peak: usize,
    pub(crate) connections: usize,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Latency {
    /// Of times in microseconds.
    pub(crate) fn of(times: &Histogram<u64>) -> Self {
        Self { p50: times.value_at_quantile(0.5), p99: times.value_at_quantile(0.99), max: times.max() }
    }
}

impl Measurement {
    pub(crate) fn bytes_per_connection(&self) -> f64 {
        self.idle.saturating_sub(self.start) as f64 / self.connections.max(1) as f64
    }

    pub(crate) fn figure(&self, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Cpu => self.cpu,
            Figure::Memory => Some(self.bytes_per_connection()),
            Figure::P99 | Figure::Call => self.latency.map(|latency| latency.p99 as f64),
        }
    }
}

pub(crate) fn measure(contender: &Contender, cores: &Cores) -> Result<Measurement> {
    let server = Server::start(&contender.setup, cores)?;
    // The first connections pay for what every process needs once.
    for number in 0..100 {
        open(server.port, number / ROOM, number, Offer::Nothing)?;
    }
    sleep(contender.settle);
    let start = server.resident()?;
    let mut measurement = match contender.work {
        Work::FanOut { shape, deliveries } => fan_out(&server, contender, shape, deliveries)?,
        Work::Idle { connections } => idle(&server, contender.settle, connections)?,
        Work::Churn { connects } => churn(&server, contender.settle, connects)?,
    };
    measurement.start = start;
    measurement.peak = server.peak()?;
    Ok(measurement)
}

fn fan_out(server: &Server, contender: &Contender, shape: Shape, deliveries: usize) -> Result<Measurement> {
    let Contender { settle, setup: Setup { call: calls, deflate, .. }, .. } = *contender;
    let offer = if deflate { Offer::Deflate } else { Offer::Nothing };
    let mut load = Load::open(server, shape, offer)?;
    sleep(settle);
    let idle = server.resident()?;
    let messages = deliveries.div_ceil(shape.members);
    load.publish(messages.div_ceil(20))?;
    if calls.is_some() {
        // Those from before the fan-out do not count.
        load.report()?;
    }
    let before = server.cpu()?;
    let arrivals = load.publish(messages)?;
    let cpu = server.cpu()? - before;
    Ok(Measurement {
        cpu: Some(cpu.as_secs_f64() / arrivals.deliveries as f64 * 1e6),
        deliveries_per_second: Some(arrivals.deliveries as f64 / arrivals.elapsed.as_secs_f64()),
        bytes_per_delivery: Some(arrivals.bytes as f64 / arrivals.deliveries as f64),
        latency: Some(match calls {
            None => Latency::of(&arrivals.latency),
            Some(_) => load.report()?,
        }),
        idle,
        connections: shape.connections(),
        ..Measurement::default()
    })
}

fn idle(server: &Server, settle: Duration, connections: usize) -> Result<Measurement> {
    let _open: Vec<_> = (0..connections)
        .map(|number| open(server.port, number / ROOM, number, Offer::Nothing))
        .collect::<Result<_>>()?;
    sleep(settle);
    Ok(Measurement { idle: server.resident()?, connections, ..Measurement::default() })
}

fn churn(server: &Server, settle: Duration, connects: usize) -> Result<Measurement> {
    let before = server.cpu()?;
    for number in 0..connects {
        open(server.port, number / ROOM, number, Offer::Nothing)?;
    }
    sleep(settle);
    let cpu = server.cpu()? - before;
    Ok(Measurement {
        cpu: Some(cpu.as_secs_f64() / connects as f64 * 1e6),
        idle: server.resident()?,
        connections: connects,
        ..Measurement::default()
    })
}
