//! `GET /metrics` for Prometheus, on an address of its own, which only this machine reaches unless it is told otherwise.

use std::{
    env,
    error::Error,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use rooms::metrics::SECONDS;
use tokio::{net::TcpListener, time::sleep};

/// How often what was measured is put together, be there a scrape or not: else it grows until the next one.
const UPKEEP: Duration = Duration::from_secs(5);

/// Records from now on, and serves what was recorded where `METRICS_PORT` and `METRICS_HOST` (127.0.0.1 unless set) say; without
/// a port nothing is recorded.
pub(crate) async fn serve() -> Result<(), Box<dyn Error>> {
    let Ok(port) = env::var("METRICS_PORT") else { return Ok(()) };
    let port: u16 = port.parse().map_err(|_| "METRICS_PORT is a number from 0 to 65535")?;
    let host = env::var("METRICS_HOST").map_or(Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)), |host| host.parse());
    let host = host.map_err(|_| "METRICS_HOST is an IP address, such as 0.0.0.0")?;
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?;
    let recorder = recorder.install_recorder()?;
    let listener = TcpListener::bind((host, port)).await?;
    tracing::info!("metrics on http://{}/metrics", listener.local_addr()?);
    let scraped = recorder.clone();
    let router = Router::new().route("/metrics", get(move || async move { scraped.render() }));
    // Without the bounds of `rooms::axum::serve`, which belong to the rooms: let nobody but the scraper reach this address.
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::spawn(async move {
        loop {
            sleep(UPKEEP).await;
            recorder.run_upkeep();
        }
    });
    Ok(())
}
