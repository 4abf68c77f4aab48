//! The files of `examples/deploy` that are not run here, as that needs a registry and a cluster: against the schemas of what reads
//! them, and against the program. The proxies and the unit are run in `deploy.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

const COMPOSE: &str = include_str!("../examples/deploy/compose.yaml");
const DOCKERFILE: &str = include_str!("../examples/deploy/Dockerfile");
const KUBERNETES: &str = include_str!("../examples/deploy/kubernetes.yaml");
const PROMETHEUS: &str = include_str!("../examples/deploy/prometheus.yml");
const DATASOURCES: &str = include_str!("../examples/deploy/grafana/datasources.yaml");
const DASHBOARDS: &str = include_str!("../examples/deploy/grafana/dashboards.yaml");
const UNIT: &str = include_str!("../examples/deploy/live_posts.service");
const MAIN: &str = include_str!("../examples/live_posts/main.rs");

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a script fetches is where it says.
fn fetched_by(script: &str) -> String {
    let fetched = Command::new(root().join(script)).output().unwrap();
    assert!(fetched.status.success(), "{script}: {}", String::from_utf8_lossy(&fetched.stderr));
    String::from_utf8(fetched.stdout).unwrap().trim().to_owned()
}

/// What YAML files of these kinds say, and what their schemas do not allow in them.
fn read<T: AsRef<str>>(files: &[(&str, T)]) -> Vec<(Vec<Value>, String)> {
    let files: Vec<_> = files.iter().map(|(kind, text)| json!({"kind": kind, "text": text.as_ref()})).collect();
    let mut node = Command::new("node")
        .arg("tests/deploy/validate.mjs")
        .args([fetched_by("scripts/npm-packages"), fetched_by("scripts/deploy-schemas")])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`apt-get install nodejs npm` installs what it needs");
    node.stdin.take().unwrap().write_all(json!(files).to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    let read: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let documents = |file: &Value| file["documents"].as_array().unwrap().clone();
    read.iter().map(|file| (documents(file), file["faults"].as_str().unwrap().to_owned())).collect()
}

/// The documents of one file.
fn documents(kind: &str, text: &str) -> Vec<Value> {
    read(&[(kind, text)]).remove(0).0
}

fn deployment() -> Value {
    documents("kubernetes", KUBERNETES).into_iter().find(|object| object["kind"] == "Deployment").unwrap()
}

#[test]
fn the_files_are_what_their_schemas_say() {
    let files = [
        ("compose", COMPOSE),
        ("kubernetes", KUBERNETES),
        ("grafana", DATASOURCES),
        ("grafana", DASHBOARDS),
        ("prometheus", PROMETHEUS),
    ];
    for ((kind, text), (documents, faults)) in files.iter().zip(read(&files)) {
        assert_eq!(faults, "", "{kind}: {text}");
        assert!(documents.iter().all(Value::is_object), "{documents:?}");
    }
}

#[test]
fn broken_files_are_not() {
    let broken = [
        ("compose", COMPOSE, "stop_grace_period:", "grace_period:", "unevaluated properties"),
        ("compose", COMPOSE, "condition: service_healthy", "condition: healthy", "allowed values"),
        ("compose", COMPOSE, "image: redis:7", "image: [redis]", "must be string"),
        ("compose", COMPOSE, "*node\n  node-b", "*knot\n  node-b", "alias"),
        ("kubernetes", KUBERNETES, "preStop:", "preStopp:", "additional properties"),
        ("kubernetes", KUBERNETES, "sleep: { seconds: 5 }", "sleep: { seconds: five }", "must be integer"),
        ("kubernetes", KUBERNETES, "policy/v1\n", "policy/v1beta1\n", "has no policy/v1beta1 PodDisruptionBudget"),
        ("kubernetes", KUBERNETES, "containerPort: 9000", "port: 9000", "required property 'containerPort'"),
        (
            "kubernetes",
            KUBERNETES,
            "                name: live-posts\n",
            "                nam: live-posts\n",
            "additional properties",
        ),
        ("grafana", DATASOURCES, "isDefault:", "default:", "additional properties"),
        ("grafana", DASHBOARDS, "type: file", "type: disk", "constant"),
    ];
    let files = broken.map(|(kind, text, old, new, _)| {
        assert!(text.contains(old), "{old}");
        (kind, text.replacen(old, new, 1))
    });
    for ((kind, _, old, new, expected), (_, faults)) in broken.iter().zip(read(&files)) {
        assert!(faults.contains(expected), "{kind}, {new:?} in the place of {old:?}: {faults:?}");
    }
}

/// What `hadolint` finds in a Dockerfile, and `ShellCheck`, which is in it, in its commands.
fn faults_of_dockerfile(text: &str) -> String {
    let program = Path::new(&fetched_by("scripts/deploy-schemas")).join("hadolint");
    // The certificates that are trusted are the newest of the image's Debian, whose versions are gone when there are others.
    let command = Command::new(program)
        .args(["--no-color", "--ignore", "DL3008", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut hadolint = command.unwrap();
    hadolint.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = hadolint.wait_with_output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.success(), found.is_empty(), "{found}");
    found
}

#[test]
fn the_dockerfile_is_one_that_hadolint_takes() {
    assert_eq!(faults_of_dockerfile(DOCKERFILE), "");
    for (old, new, expected) in [
        ("COPY . .", "COPPY . .", "unexpected"),
        ("--from=build", "--from=bild", "DL3022"),
        ("ENTRYPOINT [\"/usr/local/bin/live_posts\"]", "ENTRYPOINT /usr/local/bin/live_posts", "DL3025"),
        ("rm -rf /var/lib/apt/lists/*", "rm -rf $lists", "SC2086"),
        ("debian:bookworm-slim", "debian", "DL3006"),
    ] {
        assert!(DOCKERFILE.contains(old), "{old}");
        let found = faults_of_dockerfile(&DOCKERFILE.replacen(old, new, 1));
        assert!(found.contains(expected), "{new:?} in the place of {old:?}: {found:?}");
    }
}

/// The program is linked with the C library of the image that builds it, and an older one may lack what it uses.
#[test]
fn the_image_that_builds_the_program_and_the_one_that_runs_it_are_of_one_debian() {
    let release = |before: &str, after: &str| {
        let line = DOCKERFILE.lines().find_map(|line| line.strip_prefix(before)?.strip_suffix(after));
        line.unwrap_or_else(|| panic!("no {before}..{after}"))
    };
    assert_eq!(release("FROM rust:1-", " AS build"), release("FROM debian:", "-slim"));
}

#[test]
fn each_variable_that_a_file_sets_is_one_that_the_program_reads() {
    let sources = fs::read_dir(root().join("examples/live_posts")).unwrap();
    let sources =
        sources.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let sources: String = sources.map(|path| fs::read_to_string(path).unwrap()).collect();
    let known: BTreeSet<_> =
        sources.split("env::var(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();

    let compose = documents("compose", COMPOSE).remove(0);
    let of_compose: BTreeSet<_> = compose["x-node"]["environment"].as_object().unwrap().keys().cloned().collect();
    let of_pods = deployment();
    let of_pods = of_pods.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap();
    let of_pods: BTreeSet<_> = of_pods.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    let of_unit = UNIT.lines().find(|line| line.starts_with("# PORT,")).unwrap().split(';').next().unwrap();
    let of_unit: BTreeSet<_> = of_unit.trim_start_matches("# ").split(", ").map(str::to_owned).collect();
    let of_image: BTreeSet<_> =
        DOCKERFILE.lines().filter_map(|line| line.strip_prefix("ENV ")?.split('=').next()).map(str::to_owned).collect();

    for set in [&of_compose, &of_pods, &of_unit, &of_image] {
        assert!(set.is_subset(&known) && !set.is_empty(), "{set:?} of {known:?}");
    }
    // The image has what is the same for all who run it, and each starter gives the rest.
    for set in [of_compose, of_pods] {
        assert_eq!(set.union(&of_image).cloned().collect::<BTreeSet<_>>(), known);
    }
}

/// The arguments of `cargo build` in the Dockerfile.
fn build() -> Vec<&'static str> {
    let line = DOCKERFILE.lines().find(|line| line.trim_start().starts_with("cargo build ")).unwrap();
    line.trim().trim_end_matches('\\').split_whitespace().skip(2).collect()
}

#[test]
fn the_image_has_the_program_with_all_that_the_files_use_of_it() {
    let arguments = build();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| *argument == name).unwrap();
        arguments[at + 1]
    };
    assert_eq!(after("--example"), "live_posts");
    let manifest = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&manifest.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|one| one["name"] == "ws-rooms").unwrap();
    let mut features: BTreeSet<&str> = BTreeSet::new();
    let mut wanted: Vec<&str> = after("--features").split(',').collect();
    while let Some(feature) = wanted.pop() {
        let implied = package["features"][feature].as_array().unwrap_or_else(|| panic!("no feature {feature}"));
        wanted.extend(implied.iter().filter_map(Value::as_str).filter(|name| !name.contains([':', '/', '?'])));
        features.insert(feature);
    }
    let example = package["targets"].as_array().unwrap().iter().find(|one| one["name"] == "live_posts").unwrap();
    let needed = example["required-features"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
    for feature in needed.chain(["metrics", "redis-tls"]) {
        assert!(features.contains(feature), "{feature} is not in {features:?}");
    }
    assert!(arguments.contains(&"--release") && arguments.contains(&"--locked"), "{arguments:?}");
    assert!(DOCKERFILE.contains("cp target/release/examples/live_posts /live_posts\n"));
    let place = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert!(DOCKERFILE.contains(&format!("COPY --from=build /live_posts {place}\n")));
    assert!(DOCKERFILE.contains(&format!("ENTRYPOINT [\"{place}\"]")));
}

#[test]
fn ports_and_paths_are_those_of_the_program() {
    let deployment = deployment();
    let of_pod = |pointer: &str| deployment.pointer(&format!("/spec/template{pointer}")).unwrap().clone();
    let container = of_pod("/spec/containers/0");
    let variable = |name: &str| {
        let all = container["env"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
    };
    let port = |name: &str| {
        let all = container["ports"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap()["containerPort"].to_string()
    };
    let (http, metrics) = (port("http"), port("metrics"));
    assert_eq!((&variable("PORT"), &variable("METRICS_PORT")), (&http, &metrics));
    assert_eq!(of_pod("/metadata/annotations/prometheus.io~1port"), json!(metrics));
    assert_eq!(of_pod("/metadata/annotations/prometheus.io~1path"), "/metrics");
    assert!(DOCKERFILE.contains(&format!("EXPOSE {http} {metrics}\n")));
    let compose = documents("compose", COMPOSE).remove(0);
    let environment = &compose["services"]["node-a"]["environment"];
    assert_eq!((&environment["PORT"], &environment["METRICS_PORT"]), (&json!(http), &json!(metrics)));
    for node in ["node-a", "node-b"] {
        assert!(PROMETHEUS.contains(&format!("{node}:{metrics}")), "{node}");
        assert!(compose["services"][node].is_object());
    }
    let check = compose["x-node"]["healthcheck"]["test"].to_string();
    assert!(check.contains(&format!("/{http} ")) && check.contains("GET /readyz "), "{check}");
    for probe in ["readinessProbe", "livenessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        assert!(MAIN.contains(&format!(".route(\"{path}\", ")), "{path}");
    }
}

/// Seconds of a constant of the program.
fn seconds(name: &str) -> u64 {
    let value = MAIN.split(&format!("const {name}: Duration = Duration::from_secs(")).nth(1).unwrap();
    value.split(')').next().unwrap().parse().unwrap()
}

#[test]
fn whoever_stops_the_program_waits_for_it_and_whoever_looks_sees_it_go() {
    // The members, then ten seconds for a hook (`Limits::hook_timeout`), and two for requests.
    let hook_timeout = rooms::Limits::default().hook_timeout.as_secs();
    let (seen, whole) = (seconds("SEEN"), seconds("SHUTDOWN") + hook_timeout + 2);
    let deployment = deployment();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > before + whole);
    let probe = &container["readinessProbe"];
    assert!(probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap() < seen);
    let compose = documents("compose", COMPOSE).remove(0);
    let grace = compose["x-node"]["stop_grace_period"].as_str().unwrap();
    assert!(grace.trim_end_matches('s').parse::<u64>().unwrap() > whole);
    let grace = UNIT.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(grace.parse::<u64>().unwrap() > whole);
}

#[test]
fn what_compose_mounts_is_there_and_where_its_reader_looks() {
    let compose = documents("compose", COMPOSE).remove(0);
    let mut mounted = BTreeSet::new();
    for service in compose["services"].as_object().unwrap().values() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let [from, to, _] = volume.as_str().unwrap().split(':').collect::<Vec<_>>()[..] else { panic!("{volume}") };
            // The certificate is whoever's deploys.
            let file = root().join("examples/deploy").join(from);
            assert!(from == "./tls" || file.is_file(), "{from}");
            mounted.insert(to.to_owned());
        }
    }
    let dashboards = documents("grafana", DASHBOARDS).remove(0);
    let folder = dashboards["providers"][0]["options"]["path"].as_str().unwrap().to_owned();
    assert!(mounted.contains(&format!("{folder}/rooms.json")), "{mounted:?}");
    let rules = documents("prometheus", PROMETHEUS).remove(0)["rule_files"][0].as_str().unwrap().to_owned();
    assert!(mounted.contains(&format!("/etc/prometheus/{rules}")), "{mounted:?}");
    let url = documents("grafana", DATASOURCES).remove(0)["datasources"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(url, "http://prometheus:9090");
    assert!(compose["services"]["prometheus"].is_object());
}

#[test]
fn prometheus_takes_its_configuration_with_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("prometheus.yml", PROMETHEUS);
    write("alerts.yml", &fs::read_to_string(root().join("docs/alerts.yml")).unwrap());
    let check = |name: &str| {
        let path: &Path = &folder.path().join(name);
        let checked = Command::new("promtool").args(["check", "config"]).arg(path).output();
        let checked =
            checked.unwrap_or_else(|error| panic!("promtool: {error}; `apt-get install prometheus` installs it"));
        (checked.status.success(), String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap())
    };
    let (taken, said) = check("prometheus.yml");
    assert!(taken && said.contains("12 rules found"), "{said}");
    write("broken.yml", &PROMETHEUS.replace("job_name", "jobname"));
    assert!(!check("broken.yml").0);
}
