//! What an operator is given: every metric of the list is recorded by real traffic, and no other; the page about them, the
//! dashboard and the alert rules name what there is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, extract::Path, response::Response, routing::get};
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use rooms::{
    Attempt, AuthError, Authenticator, Bus as _, Endpoint, Identity, JoinOptions, Kind, Message, Overflow, RoomKey,
    RoomManager, TraceContext,
    axum::{RoomEvents, RoomUpgrade},
    bus::{Retention, Topic},
    metrics::{ALL, Label, MetricSort, SECONDS, Unit},
    redis::RedisBus,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};
use tokio_tungstenite::tungstenite;

use redis_server::{PATIENCE, RedisServer};

/// A token is the user's id, and `bad` is none.
#[derive(Debug)]
struct ByName;

#[async_trait]
impl Authenticator for ByName {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        match attempt.token() {
            Some("bad") | None => Err(AuthError::Signature),
            Some(user) => Identity::new(user).map_err(|_| AuthError::Subject),
        }
    }
}

fn key(room: &str) -> RoomKey {
    room.parse().unwrap()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited for {what}"));
}

async fn node(redis: &RedisServer) -> RoomManager {
    RoomManager::builder()
        .authenticator(ByName)
        .endpoint(Endpoint::new().query_token("token"))
        .bus(RedisBus::connect(redis.url()).await.unwrap())
        .trace_context(TraceContext::new(|| None))
        .limits(|limits| {
            limits.max_connections_per_user = 2;
            limits.max_outbox_messages = 8;
        })
        .kind("post", Kind::authenticated().history(Retention::messages(3)))
        .kind("ticker", Kind::authenticated().overflow(Overflow::DropOldest))
        .kind("broken", Kind::authenticated().on_join(|_| async { panic!("a hook that fails") }))
        .build()
        .unwrap()
}

async fn serve(rooms: &RoomManager) -> SocketAddr {
    async fn live(upgrade: RoomUpgrade, Path((kind, id)): Path<(String, String)>) -> Response {
        upgrade.room(&kind, id)
    }
    async fn many(upgrade: RoomUpgrade) -> Response {
        upgrade.rooms()
    }
    async fn events(events: RoomEvents) -> Response {
        events.room("post", 1)
    }
    let router = Router::new()
        .route("/live/{kind}/{id}", get(live))
        .route("/many", get(many))
        .route("/events", get(events))
        .with_state(rooms.clone());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// What was recorded: the series that were other than 0 once, with the labels that they had.
#[derive(Default)]
struct Recorded(BTreeMap<String, BTreeSet<String>>);

impl Recorded {
    fn scrape(&mut self, recorder: &PrometheusHandle) {
        for line in recorder.render().lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            if value.parse::<f64>().unwrap() != 0.0 {
                let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
                self.0.entry(name.to_owned()).or_default().insert(labels.trim_end_matches('}').to_owned());
            }
        }
    }

    /// The value of a series now.
    fn value(recorder: &PrometheusHandle, series: &str) -> f64 {
        let text = recorder.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_records_every_metric_of_the_list_and_no_other() {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .unwrap()
        .install_recorder()
        .unwrap();
    let mut recorded = Recorded::default();
    let mut redis = RedisServer::start().await;
    let (rooms, other) = (node(&redis).await, node(&redis).await);
    until("the other node", || rooms.stats().nodes == 2 && other.stats().nodes == 2).await;
    let address = serve(&rooms).await;
    let connect = |path: String| tokio_tungstenite::connect_async(format!("ws://{address}{path}"));

    // Members: of one room, of many, and of an event stream.
    let (mut one, _) = connect("/live/post/1?token=one".into()).await.unwrap();
    let (mut many, _) = connect("/many?token=many".into()).await.unwrap();
    many.send(tungstenite::Message::text(r#"{"type":"join","room":"post:1"}"#)).await.unwrap();
    let mut events = reqwest::Client::new();
    let stream = events
        .get(format!("http://{address}/events?token=reader"))
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    until("three members", || rooms.local_viewers(&key("post:1")) == 3).await;
    recorded.scrape(&recorder);
    assert_eq!(Recorded::value(&recorder, "rooms_connections{form=\"one_room\"}"), 2.0);
    assert_eq!(Recorded::value(&recorder, "rooms_viewers{kind=\"post\"}"), 3.0);

    // Broadcasts, of which a client that was away has missed some, and of which one is too many for the history.
    let before = rooms.broadcast(&key("post:1"), &json!({"n": 0})).await.unwrap().position.unwrap();
    rooms.broadcast(&key("post:1"), &json!({"n": 1})).await.unwrap();
    let returned = |user: &str| {
        let (sink, received) = mpsc::unbounded::<Message>();
        (other.with_sink().connect(Identity::new(user).unwrap(), sink).unwrap(), received)
    };
    let (mut first, _first) = returned("first");
    first.join_with(&key("post:1"), JoinOptions::new().since(before.to_string())).await.unwrap();
    for n in 2..9 {
        rooms.broadcast(&key("post:1"), &json!({ "n": n })).await.unwrap();
    }
    let (mut second, _second) = returned("second");
    second.join_with(&key("post:1"), JoinOptions::new().since(before.to_string())).await.unwrap();

    // Refusals: a request that is no upgrade, a bad token, one connection too many of a user, a hook that fails.
    events = reqwest::Client::new();
    assert_eq!(events.get(format!("http://{address}/live/post/1?token=x")).send().await.unwrap().status(), 426);
    let (mut bad, _) = connect("/live/post/1?token=bad".into()).await.unwrap();
    let (_a, _) = connect("/live/ticker/1?token=three".into()).await.unwrap();
    let (_b, _) = connect("/live/ticker/2?token=three".into()).await.unwrap();
    let (mut third, _) = connect("/live/ticker/3?token=three".into()).await.unwrap();
    let (mut broken, _) = connect("/live/broken/1?token=four".into()).await.unwrap();
    for socket in [&mut bad, &mut third, &mut broken] {
        let close = async { while !matches!(socket.next().await, None | Some(Ok(tungstenite::Message::Close(_)))) {} };
        timeout(PATIENCE, close).await.unwrap();
    }

    drop((bad, third, broken));
    until("the close", || Recorded::value(&recorder, "rooms_closes_total{code=\"1011\"}") > 0.0).await;

    // A member that never reads.
    let (sink, _unread) = mpsc::channel::<Message>(0);
    let mut slow = rooms.with_sink().connect(Identity::new("slow").unwrap(), sink).unwrap();
    slow.join(&key("ticker:9")).await.unwrap();
    for n in 0..40 {
        rooms.broadcast(&key("ticker:9"), &json!({ "n": n })).await.unwrap();
        let delivered = "rooms_deliveries_total{kind=\"ticker\"}";
        until("its delivery", || Recorded::value(&recorder, delivered) > f64::from(n)).await;
    }

    // What others publish: no message, no node message, and a trace that is none.
    let stranger = RedisBus::connect(redis.url()).await.unwrap();
    stranger.publish(&Topic::Room(key("ticker:9")), b"no JSON".as_slice().into()).await.unwrap();
    stranger.publish(&Topic::Room(key("ticker:9")), b"\x01v1;t=no trace;{}".as_slice().into()).await.unwrap();
    stranger.publish(&Topic::Nodes, b"no node".as_slice().into()).await.unwrap();
    until("what strangers sent", || rooms.stats().bad_payloads > 0 && rooms.stats().undecodable > 0).await;

    // Redis goes, and comes back.
    one.close(None).await.unwrap();
    // To the server's answer: what is unread would reset the connection, and with it the close.
    timeout(PATIENCE, async { while let Some(Ok(_)) = one.next().await {} }).await.unwrap();
    drop(one);
    until("the close of the client", || Recorded::value(&recorder, "rooms_closes_total{code=\"1000\"}") > 0.0).await;
    until("the leave", || rooms.local_viewers(&key("post:1")) == 2).await;
    redis.kill();
    until("the bus to be down", || rooms.stats().bus_down && other.stats().bus_down).await;
    recorded.scrape(&recorder);
    assert_eq!(Recorded::value(&recorder, "rooms_bus_down"), 2.0, "of both managers of this process");
    rooms.broadcast(&key("ticker:9"), &json!({})).await.unwrap();
    redis.restart().await;
    until("the bus to be up", || !rooms.stats().bus_down && !other.stats().bus_down).await;
    assert_eq!(Recorded::value(&recorder, "rooms_bus_down"), 0.0);
    until("the resync", || Recorded::value(&recorder, "rooms_resyncs_total{kind=\"ticker\",reason=\"bus_gap\"}") > 0.0)
        .await;
    recorded.scrape(&recorder);

    let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    let seen: BTreeSet<&str> = recorded.0.keys().map(String::as_str).collect();
    let never: Vec<_> = names.difference(&seen).collect();
    let unlisted: Vec<_> = seen.difference(&names).collect();
    assert!(never.is_empty() && unlisted.is_empty(), "never recorded: {never:?}; not in the list: {unlisted:?}");
    for metric in ALL {
        for labels in &recorded.0[metric.name] {
            check_labels(metric.labels, labels, metric.name);
        }
    }

    assert!(recorder.render().contains("# HELP rooms_joins_total Joins by what became of them."));
}

/// Labels are those of the list, with values of the list, or kinds that were declared.
fn check_labels(known: &[Label], labels: &str, name: &str) {
    let labels: Vec<(&str, &str)> = labels
        .split("\",")
        .filter_map(|label| label.split_once("=\""))
        .map(|(label, value)| (label, value.trim_end_matches('"')))
        .filter(|(label, _)| *label != "le")
        .collect();
    assert_eq!(labels.len(), known.len(), "{name}: {labels:?}");
    for (label, value) in labels {
        let of_list = known.iter().find(|known| known.name == label);
        let values = of_list.unwrap_or_else(|| panic!("{name}: the label {label} is not in the list")).values;
        let kinds = ["post", "ticker", "broken", "unknown"];
        assert!(if values.is_empty() { kinds.contains(&value) } else { values.contains(&value) }, "{name}: {value}");
    }
}

fn docs(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(file)
}

/// What is measured of it, as the figures have it.
fn cost() -> String {
    let figures = fs::read_to_string(docs("figures.md")).unwrap();
    let cost = figures.split("\n\n").find(|paragraph| paragraph.starts_with("`scripts/metrics-cost` counts"));
    cost.expect("the paragraph about the cost of metrics").to_owned()
}

/// The page, as the list says it.
fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Made from the list in `rooms-core/src/metrics.rs`: `WRITE_DOCS=1 cargo test --all-features --test metrics` writes it.\n\n\
         With the feature `metrics` a node records these with the recorder of the crate `metrics` that the process has when\n\
         the manager is built. Labels are kinds that were declared (and `unknown` for any other), codes and outcomes; never a\n\
         room, a user or a connection. For histograms in Prometheus give the exporter `rooms::metrics::SECONDS` as buckets.\n\
         `docs/grafana.json` is a dashboard and `docs/alerts.yml` has alert rules; what to do at each alert is in the page\n\
         `observability` of the guide. A `Publisher` records none of these.\n\n",
    );
    writeln!(page, "{}\n", cost()).unwrap();
    page.push_str("| metric | what | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in ALL {
        let sort = match metric.sort {
            MetricSort::Counter => "counter",
            MetricSort::Gauge => "gauge",
            _ => "histogram",
        };
        let unit = match metric.unit {
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            _ => "",
        };
        let label = |label: &Label| match label.values {
            [] => format!("`{}`: a kind", label.name),
            values => format!("`{}`: {}", label.name, values.join(", ")),
        };
        let labels = metric.labels.iter().map(label).collect::<Vec<_>>().join("<br>");
        writeln!(page, "| `{}` | {sort} | {unit} | {labels} | {} |", metric.name, metric.help).unwrap();
    }
    page
}

#[test]
fn the_page_about_metrics_is_as_the_list_and_the_figures_are() {
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(docs("metrics.md"), page()).unwrap();
    }
    let on_disk = fs::read_to_string(docs("metrics.md")).unwrap_or_default();
    assert!(
        on_disk == page(),
        "docs/metrics.md is not as the list and docs/figures.md are: run this test with WRITE_DOCS=1"
    );
}

/// Each metric of ours that a PromQL expression names is in the list, and each label beside it is one of the metric's.
fn check_expression(expression: &str) {
    let words = |text: &str| -> Vec<String> {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        text.split(word).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let mut metrics = Vec::new();
    for name in words(expression).iter().filter(|word| word.starts_with("rooms_")) {
        let metric = ALL.iter().find(|metric| {
            let of_histogram = metric.sort == MetricSort::Histogram;
            metric.name == name
                || (of_histogram
                    && ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", metric.name)).contains(name))
        });
        metrics.push(metric.unwrap_or_else(|| panic!("there is no metric {name}: {expression}")));
    }
    assert!(!metrics.is_empty(), "{expression}");
    let known = |label: &str| {
        ["le", "instance", "job"].contains(&label)
            || metrics.iter().any(|metric| metric.labels.iter().any(|known| known.name == label))
    };
    // Labels stand in braces in front of a comparison, and after `by`.
    for braces in expression.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        for (label, value) in braces.split(',').filter_map(|matcher| matcher.split_once('=')) {
            let label = label.trim().trim_end_matches('!');
            assert!(known(label), "no label {label}: {expression}");
            let value = value.trim_start_matches('~').trim_matches('"');
            let of = metrics.iter().flat_map(|metric| metric.labels).filter(|known| known.name == label);
            let values: Vec<_> = of.flat_map(|label| label.values).collect();
            let all =
                value.split('|').all(|value| values.is_empty() || value.starts_with('$') || values.contains(&&value));
            assert!(all, "no value {value} of {label}: {expression}");
        }
    }
    for by in expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next()) {
        by.split(',').for_each(|label| assert!(known(label.trim()), "no label {label}: {expression}"));
    }
}

#[test]
#[should_panic(expected = "there is no metric rooms_nothing_total")]
fn an_expression_with_an_unknown_metric_is_found() {
    check_expression("rate(rooms_nothing_total[5m])");
}

#[test]
#[should_panic(expected = "no value 4999 of code")]
fn an_expression_with_an_unknown_value_is_found() {
    check_expression("rate(rooms_closes_total{code=\"4999\"}[5m])");
}

#[test]
fn every_alert_is_valid_and_names_what_there_is() {
    let checked = Command::new("promtool").args(["check", "rules"]).arg(docs("alerts.yml")).output();
    let checked = checked.unwrap_or_else(|error| panic!("promtool: {error}; `apt-get install prometheus` installs it"));
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let text = fs::read_to_string(docs("alerts.yml")).unwrap();
    let guide = include_str!("../src/guide/observability.md");
    let (mut alerts, mut expressions) = (0, 0);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            assert!(guide.contains(&format!("**{name}**")), "the guide says nothing of {name}");
            alerts += 1;
        }
        if let Some(expression) = line.strip_prefix("expr: ") {
            check_expression(expression);
            expressions += 1;
        }
    }
    assert!(alerts > 5 && alerts == expressions, "{alerts} alerts, {expressions} expressions in one line");
}

#[test]
fn the_alerts_fire_where_they_should_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.test.yml");
    let rules = docs("alerts.yml").display().to_string();
    fs::write(&path, include_str!("metrics/alerts.test.yml").replace("RULES", &rules)).unwrap();
    let tested = Command::new("promtool").args(["test", "rules"]).arg(path).output();
    let tested = tested.unwrap_or_else(|error| panic!("promtool: {error}; `apt-get install prometheus` installs it"));
    let said = [tested.stdout, tested.stderr].concat();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// What of a dashboard is used here: <https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/>.
#[test]
fn the_dashboard_is_valid_and_names_what_there_is() {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(docs("grafana.json")).unwrap()).unwrap();
    for field in ["title", "uid"] {
        assert!(dashboard[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        assert!(["datasource", "query"].contains(&variable["type"].as_str().unwrap()), "{variable}");
        if variable["type"] == "query" {
            check_expression(variable["query"].as_str().unwrap());
        }
    }
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is there twice: {panel}");
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(place[0] + place[2] <= 24 && places.insert((place[0], place[1])), "two panels in one place: {panel}");
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        assert!(["timeseries", "stat"].contains(&panel["type"].as_str().unwrap()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        for target in panel["targets"].as_array().filter(|targets| !targets.is_empty()).unwrap() {
            assert!(target["refId"].is_string() && target["legendFormat"].is_string(), "{target}");
            check_expression(target["expr"].as_str().unwrap());
        }
    }
    assert!(panels.len() >= 10, "{} panels", panels.len());
}
