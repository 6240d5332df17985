//! A report as one self-contained HTML page: style and plots are inline, and it has no script.

use std::fmt::Write;

use super::{Report, ReportTable, plots, table};
use crate::figure::escaped;

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1500px; margin: 2em auto; padding: 0 1.5em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.1em; margin: 1.6em 0 .4em; }
table { border-collapse: collapse; } td, th { padding: .2em .9em .2em 0; text-align: left; vertical-align: top; }
table.numbers td, table.numbers th { text-align: right; font-variant-numeric: tabular-nums; border-bottom: 1px solid #e2e2e2; }
table.numbers td:first-child, table.numbers th:first-child { text-align: left; }
table.facts td:first-child { color: #666; white-space: nowrap; }
pre { background: #f4f4f4; padding: .6em .8em; overflow-x: auto; white-space: pre-wrap; }
.plots { display: flex; flex-wrap: wrap; gap: 1em; } .plots svg { max-width: 100%; height: auto; border: 1px solid #eee; }
.note { background: #fff6df; border-left: 4px solid #e69f00; padding: .4em .8em; }
";

pub(super) fn page(report: &Report) -> String {
    let name = serde_json::to_value(report.protocol).ok().and_then(|name| name.as_str().map(str::to_owned));
    let model = report.origin.model.as_deref().unwrap_or("scores of a file");
    let title = escaped(&format!("{model}: {}", name.unwrap_or_default()));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let mut tables = table::of(report).into_iter();
    page.extend(tables.next().map(|facts| shown(&facts)));
    for note in &report.notes {
        writeln!(page, "<p class=\"note\">{}</p>", escaped(note)).expect("a text grows");
    }
    page.push_str("<div class=\"plots\">\n");
    page.extend(plots::of(report).iter().map(super::super::figure::Figure::svg));
    page.push_str("</div>\n");
    page.extend(tables.map(|table| shown(&table)));
    if let Some(command) = &report.command {
        writeln!(page, "<h2>Made by</h2>\n<pre>{}</pre>", escaped(command)).expect("a text grows");
    }
    writeln!(page, "<p>Semblance {}</p>\n</body></html>", env!("CARGO_PKG_VERSION")).expect("a text grows");
    page
}

fn shown(table: &ReportTable) -> String {
    let mut html = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| html.write_fmt(text).expect("a text grows");
    if !table.title.is_empty() {
        put(format_args!("<h2>{}</h2>\n", escaped(&table.title)));
    }
    put(format_args!("<table class=\"{}\">\n", if table.head.is_empty() { "facts" } else { "numbers" }));
    if !table.head.is_empty() {
        put(format_args!("<tr>"));
        for cell in &table.head {
            put(format_args!("<th>{}</th>", escaped(cell)));
        }
        put(format_args!("</tr>\n"));
    }
    for row in &table.rows {
        put(format_args!("<tr>"));
        for cell in row {
            put(format_args!("<td>{}</td>", escaped(cell)));
        }
        put(format_args!("</tr>\n"));
    }
    put(format_args!("</table>\n"));
    html
}
