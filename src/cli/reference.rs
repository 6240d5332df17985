//! `semblance reference`: the generated pages of the documentation, as Markdown.

use std::{collections::BTreeSet, fmt::Write as _};

use clap::{Arg, Command, ValueEnum};

use domain::metric::{METRICS, MetricKind, MetricUnit};

use super::print;

/// A generated page below `docs/`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ReferencePage {
    /// docs/settings.md
    Settings,
    /// docs/metrics.md
    Metrics,
}

pub(super) fn run(program: &Command, page: ReferencePage) {
    print(
        match page {
            ReferencePage::Settings => settings(program),
            ReferencePage::Metrics => metrics(),
        }
        .trim_end(),
    );
}

/// Every flag with a variable, in the order of the command line, under its heading.
fn settings(program: &Command) -> String {
    let mut page = String::from(
        "<!-- Generated: semblance reference settings > docs/settings.md -->\n# Settings\n\n\
         A setting is a flag, an environment variable or a key of the TOML file in `SEMBLANCE_CONFIG`, in this order of precedence. \
         The TOML key is the name of the flag in snake case: `--http-addr` is `http_addr`.\n",
    );
    let mut written = BTreeSet::new();
    let mut heading = None;
    for command in std::iter::once(program).chain(program.get_subcommands()) {
        for arg in command.get_arguments() {
            let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) else { continue };
            if !written.insert(variable.to_owned()) {
                continue;
            }
            let section =
                arg.get_help_heading().map_or_else(|| format!("semblance {}", command.get_name()), str::to_owned);
            if heading.as_ref() != Some(&section) {
                let _infallible =
                    write!(page, "\n## {section}\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n");
                heading = Some(section);
            }
            let variable = variable.to_string_lossy();
            let _infallible =
                writeln!(page, "| `--{flag}` | `{variable}` | {} | {} |", default_of(arg), meaning_of(arg));
        }
    }
    page
}

fn default_of(arg: &Arg) -> String {
    let defaults: Vec<String> = arg.get_default_values().iter().map(|value| value.to_string_lossy().into()).collect();
    match defaults.join(",") {
        none if none.is_empty() => "none".to_owned(),
        default => format!("`{default}`"),
    }
}

/// The help in one line, with the values to choose from.
fn meaning_of(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut meaning = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    // clap takes the last full stop away.
    if !meaning.ends_with('.') {
        meaning.push('.');
    }
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let truths = ["`true`", "`false`"];
    if !values.is_empty() && values != truths {
        let _infallible = write!(meaning, " One of {}.", values.join(", "));
    }
    meaning
}

/// The table of metrics, in its own order.
fn metrics() -> String {
    let mut page = String::from(
        "<!-- Generated: semblance reference metrics > docs/metrics.md -->\n# Metrics\n\n\
         `/metrics` shows these in the text format of Prometheus. Histograms end in `_bucket`, `_sum` and `_count` there.\n\n\
         | metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let unit = match metric.unit {
            MetricUnit::Count => "count",
            MetricUnit::Seconds => "seconds",
            MetricUnit::Bytes => "bytes",
            MetricUnit::Ratio => "ratio, 0 to 1",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _infallible =
            writeln!(page, "| `{}` | {kind} | {unit} | {} | {} |", metric.name, labels.join(", "), metric.help);
    }
    page
}
