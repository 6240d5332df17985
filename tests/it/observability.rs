//! The metrics page and the sources against the table of metrics, and the spans of a request.

use std::{collections::BTreeSet, fs, path::Path};

use domain::metric::{METRICS, Metric, MetricKind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, eventually},
};

/// What a metric shows beside the labels of the table: buckets and quantiles of histograms.
const LABELS_OF_HISTOGRAMS: [&str; 2] = ["le", "quantile"];

async fn page(server: &Server) -> String {
    server.request(Method::GET, "/metrics").send().await.expect("answered").text().await.expect("a page")
}

fn metric_named(name: &str) -> &'static Metric {
    METRICS.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name} is not in domain/metric.rs"))
}

/// The name and the label names of a sample such as `name{label="value"} 1`.
fn name_and_labels(sample: &str) -> (&str, Vec<&str>) {
    let Some((name, rest)) = sample.split_once('{') else {
        return (sample.split(' ').next().expect("a name"), Vec::new());
    };
    // Values of ours have no comma or equals sign.
    let labels = rest.split_once('}').expect("closed").0.split(',');
    (name, labels.map(|label| label.split_once('=').expect("a value").0).collect())
}

#[tokio::test]
async fn every_metric_on_the_page_stands_in_the_table_and_has_help() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    let entry = json!({"name": "collections/staff/identities/bob", "samples": [embedding([0.0, 1.0, 0.0, 0.0])]});
    for (method, body) in [
        ("identities:batchEnroll", json!({"requests": [entry]})),
        ("identities:search", json!({"samples": [embedding([1.0, 0.1, 0.0, 0.0])]})),
        ("identities:resolve", json!({"samples": [embedding([1.0, 0.1, 0.0, 0.0])]})),
        ("identities:findDuplicates", json!({"modality": "face", "minSimilarity": 0.5})),
    ] {
        server.expect(Method::POST, &format!("/v1/collections/staff/{method}"), Some(body)).await;
    }
    eventually("the operation ends", async || page(&server).await.contains("semblance_operations_total{")).await;

    let page = page(&server).await;
    let mut shown = BTreeSet::new();
    let helps: BTreeSet<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    for (name, kind) in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let metric = metric_named(name);
        let expected = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        assert_eq!(kind, expected, "{name}");
        assert!(helps.contains(&(name, metric.help)), "{name} has no HELP, or another: {page}");
        shown.insert(name);
    }
    for sample in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, labels) = name_and_labels(sample);
        let part_of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let name = part_of_histogram.filter(|name| shown.contains(name)).unwrap_or(name);
        let metric = metric_named(name);
        assert!(shown.contains(name), "{sample} has no TYPE");
        let labels: Vec<&str> = labels.into_iter().filter(|label| !LABELS_OF_HISTOGRAMS.contains(label)).collect();
        assert_eq!(labels, metric.labels, "{sample}");
    }
    for name in [domain::metric::BATCH_ENTRIES, domain::metric::OPERATIONS, domain::metric::OPERATIONS_RUNNING] {
        assert!(shown.contains(name), "{name} is recorded: {page}");
    }
}

/// The text of every Rust file below a folder, without the table itself.
fn sources_below(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text += &sources_below(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("domain/metric.rs") {
            text += &fs::read_to_string(&path).expect("a source is UTF-8");
        }
    }
    text
}

#[test]
fn every_metric_of_the_table_is_recorded_and_no_other() {
    let sources = sources_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let recorded = |constant: &str| {
        let name = format!("metric::{constant}");
        sources.match_indices(&name).any(|(at, _)| {
            sources[at + name.len()..].chars().next().is_some_and(|next| !next.is_alphanumeric() && next != '_')
        })
    };
    let never: Vec<&str> = METRICS.iter().map(|metric| metric.constant).filter(|name| !recorded(name)).collect();
    assert!(never.is_empty(), "described and never recorded: {never:?}");
    for record in ["counter!(\"", "gauge!(\"", "histogram!(\""] {
        assert!(!sources.contains(record), "{record}...: take the name from domain/metric.rs");
    }
}

/// The ends of spans in a log of JSON lines: each as its own fields and the names of the spans above it, outermost first.
fn ended_spans(log: &str) -> Vec<(Value, Vec<String>)> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ends = lines.filter(|line| line["message"] == "close");
    ends.map(|line| {
        let names = line["spans"].as_array().expect("a list").iter();
        let mut names: Vec<String> = names.map(|span| span["name"].as_str().expect("a name").to_owned()).collect();
        assert_eq!(names.pop().as_deref(), line["span"]["name"].as_str(), "the last is the span itself");
        (line["span"].clone(), names)
    })
    .collect()
}

#[tokio::test]
async fn the_steps_of_a_request_stand_below_its_span_which_names_the_callers_trace() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let home = Home::new(&Database::Sqlite).await;
    let env = [("SEMBLANCE_LOG", "semblance=debug"), ("SEMBLANCE_LOG_FORMAT", "json")];
    let server = Server::start(&home, &Start { env: &env, ..Start::default() });
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    let search = server
        .request(Method::POST, "/v1/collections/staff/identities:search")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .json(&json!({"samples": [embedding([1.0, 0.1, 0.0, 0.0])]}));
    assert!(search.send().await.expect("answered").status().is_success());
    let has_ended = |span: &Value| span["name"] == "request" && span["method"] == "Search";
    eventually("the search's span ends", async || ended_spans(&server.log()).iter().any(|(span, _)| has_ended(span)))
        .await;

    let spans = ended_spans(&server.log());
    let (request, above) = spans.iter().find(|(span, _)| has_ended(span)).expect("it ended");
    assert!(above.is_empty());
    assert_eq!((&request["trace_id"], &request["parent_span_id"]), (&json!(TRACE), &json!("00f067aa0ba902b7")));
    for (name, expected, waits) in
        [("scan", vec!["request"], true), ("turn", vec!["request"], true), ("commit", vec!["request", "turn"], false)]
    {
        let found = spans.iter().find(|(span, _)| span["name"] == name);
        let (span, above) = found.unwrap_or_else(|| panic!("no span {name}: {}", server.log()));
        assert_eq!(*above, expected, "{name}");
        assert_eq!(span["wait_ms"].is_number(), waits, "{name}: {span}");
        assert!(!waits || span["batch"] == 1, "{name}: {span}");
    }
}
