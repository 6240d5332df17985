//! The metrics page and the sources against the table of metrics, and the spans of a request.

use std::{collections::BTreeSet, fs, path::Path};

use domain::metric::{METRICS, Metric, MetricKind};
use reqwest::Method;
use serde_json::json;

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

/// A span in a log line: its name and its fields as they are printed.
type LoggedSpan<'l> = (&'l str, &'l str);

/// The spans of a log line that tells the end of a span: the outermost first, the one that ended last.
fn spans_of_an_end(line: &str) -> Option<Vec<LoggedSpan<'_>>> {
    let (head, _) = line.split_once(": close time.busy=")?;
    let (_, spans) = head.split_once(" DEBUG ").or_else(|| head.split_once(" INFO "))?;
    let parts = spans.split("}:").map(|span| span.split_once('{').unwrap_or((span, "")));
    Some(parts.map(|(name, fields)| (name.trim_start(), fields.trim_end_matches('}'))).collect())
}

#[tokio::test]
async fn the_steps_of_a_request_stand_below_its_span_which_names_the_callers_trace() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const CALLER: &str = "00f067aa0ba902b7";
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_LOG", "semblance=debug")], ..Start::default() });
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    let search = server
        .request(Method::POST, "/v1/collections/staff/identities:search")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&json!({"samples": [embedding([1.0, 0.1, 0.0, 0.0])]}));
    assert!(search.send().await.expect("answered").status().is_success());

    for (path, fields) in [
        (vec!["request"], vec![format!("trace_id=\"{TRACE}\""), format!("parent_span_id=\"{CALLER}\"")]),
        (vec!["request", "scan"], vec!["wait_ms=".to_owned(), "batch=1".to_owned()]),
        (vec!["request", "turn"], vec!["wait_ms=".to_owned(), "batch=1".to_owned()]),
        (vec!["request", "turn", "commit"], vec!["entries=".to_owned()]),
    ] {
        let has_ended = async || {
            server.log().lines().filter_map(spans_of_an_end).any(|spans| {
                let names: Vec<&str> = spans.iter().map(|(name, _)| *name).collect();
                let (_, printed) = spans.last().expect("the one that ended");
                names == path && fields.iter().all(|field| printed.contains(field.as_str()))
            })
        };
        eventually(&format!("{path:?} ends with {fields:?}"), has_ended).await;
    }
}
