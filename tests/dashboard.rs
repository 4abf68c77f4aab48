//! The dashboard and the alert rules of `docs`, against JSON schemas: Grafana's own types for the one, and what both have here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const HINT: &str = "`apt-get install nodejs npm` installs what it needs";

fn docs(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join("docs").join(file)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&docs("grafana.json")).unwrap()
}

/// What is wrong with each of these dashboards and rules, by the schemas; nothing where it is empty.
fn faults(files: &[Value]) -> Vec<String> {
    let fetched = Command::new("scripts/npm-packages").current_dir(ROOT).output().unwrap();
    assert!(fetched.status.success(), "{}; {HINT}", String::from_utf8_lossy(&fetched.stderr));
    let packages = String::from_utf8(fetched.stdout).unwrap();
    let mut node = Command::new("node")
        .args(["tests/metrics/validate.mjs", packages.trim()])
        .current_dir(ROOT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect(HINT);
    node.stdin.take().unwrap().write_all(json!(files).to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_dashboard_and_the_rules_are_what_their_schemas_say() {
    let faults = faults(&[json!({"dashboard": dashboard()}), json!({"alerts": docs("alerts.yml")})]);
    assert_eq!(faults, ["", ""]);
}

#[test]
fn a_broken_dashboard_is_none() {
    let broken: [(&str, Value, &str); 13] = [
        ("/schemaVersion", json!("39"), "must be integer"),
        ("/timezone", json!(2), "must be string"),
        ("/refreshing", json!("10s"), "additional properties"),
        ("/templating/list/1/refresh", json!(9), "allowed values"),
        ("/templating/list/1/datasource", json!("prometheus"), "must be object"),
        ("/panels/0/type", json!("graph"), "constant"),
        ("/panels/0/gridPos/w", json!(25), "must be <= 24"),
        ("/panels/0/gridPos/width", json!(8), "additional properties"),
        ("/panels/0/options/tooltip/mode", json!("all"), "allowed values"),
        ("/panels/0/fieldConfig/defaults/unit", json!("furlongs"), "allowed values"),
        ("/panels/0/fieldConfig/defaults/custom", json!({"lineWitdh": 2}), "additional properties"),
        ("/panels/0/targets/0/expression", json!("rooms_rooms"), "additional properties"),
        ("/panels/0/targets", json!([]), "fewer than 1"),
    ];
    let files: Vec<Value> = broken
        .iter()
        .map(|(place, value, _)| {
            let mut dashboard = dashboard();
            let (parent, field) = place.rsplit_once('/').unwrap();
            dashboard.pointer_mut(parent).unwrap()[field] = value.clone();
            json!({ "dashboard": dashboard })
        })
        .collect();
    for ((place, _, expected), fault) in broken.iter().zip(faults(&files)) {
        assert!(fault.contains(expected), "{place}: {fault:?}");
    }
}

#[test]
fn broken_alert_rules_are_none() {
    let rules = docs("alerts.yml");
    let broken = [
        ("for: 1m", "four: 1m", "additional properties"),
        ("severity: page", "severity: loud", "allowed values"),
        ("annotations: {summary", "annotations: {sumary", "additional properties"),
        ("- alert: RoomsBusDown", "- alert: Rooms bus down", "pattern"),
        ("    rules:", "    rule:", "required property 'rules'"),
    ];
    let files = broken.map(|(old, new, _)| json!({"alerts": rules.replacen(old, new, 1)}));
    for ((_, new, expected), fault) in broken.iter().zip(faults(&files)) {
        assert!(fault.contains(expected), "{new}: {fault:?}");
    }
}

/// Prometheus parses each query of the dashboard, with values in the place of Grafana's variables.
#[test]
fn prometheus_takes_the_queries_of_the_dashboard() {
    let dashboard = dashboard();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let rules: Vec<Value> = targets
        .map(|target| {
            target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "5m")
                .replace("$kind", ".*")
                .replace("$job", ".*")
        })
        .enumerate()
        .map(|(number, expr)| json!({"record": format!("query:{number}"), "expr": expr}))
        .collect();
    assert!(rules.len() > 20, "{} queries", rules.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    let checked = Command::new("promtool").args(["check", "rules"]).arg(file.path()).output();
    let checked = checked.unwrap_or_else(|error| panic!("promtool: {error}; `apt-get install prometheus` installs it"));
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
