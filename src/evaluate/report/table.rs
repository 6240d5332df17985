//! The tables of a report, for console and page.

use std::fmt::{self, Write};

use super::{Comparison, Report, Results, Slice, Stream};
use crate::metrics::{
    AnswerRate, AnswerRates, CalibrationResults, ClusterAgreement, Decided, Detection, Folds, Identification, Interval,
    Pairwise, Rate, Retrieval, Support, Verification,
};
use domain::UncertainRule;

/// Rows and a header, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportTable {
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

pub(super) fn of(report: &Report) -> Vec<ReportTable> {
    let mut tables = vec![facts(report)];
    match &report.results {
        Results::Verification(v) => {
            tables.extend([verification(v), at_fmr(v)]);
            tables.extend(v.folds.as_ref().map(folds));
        }
        Results::Retrieval(r) => tables.push(retrieval(r)),
        Results::Identification(i) => {
            tables.extend([identification(i), at_fpir(i)]);
            tables.extend(promised(i));
            tables.extend(i.decided.as_ref().map(decided));
        }
        Results::Pairwise(p) => tables.extend(pairwise(p)),
        Results::Detection(d) => tables.push(detection(d)),
        Results::Stream(s) => tables.extend(stream(s)),
    }
    tables.extend(report.calibration.as_ref().map(calibration));
    tables.extend(slices(&report.slices));
    tables.extend(beside(&report.beside));
    tables
}

fn facts(report: &Report) -> ReportTable {
    let origin = &report.origin;
    let digest = origin.model_digest.as_deref().map(|digest| format!(" ({})", &digest[..digest.len().min(12)]));
    let model = origin.model.as_ref().map(|model| format!("{model}{}", digest.unwrap_or_default()));
    let samples = if report.refused > 0 {
        format!("{}, {} of them refused", report.samples, report.refused)
    } else {
        report.samples.to_string()
    };
    let rows = [
        ("model", model),
        ("licence", origin.licence.clone()),
        ("provenance", origin.provenance.clone()),
        ("data", Some(report.data.display().to_string())),
        ("samples", Some(samples)),
    ];
    named("", rows.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

fn verification(v: &Verification) -> ReportTable {
    let mut rows = vec![
        ("pairs", format!("{} genuine, {} impostor", v.genuine_pairs, v.impostor_pairs)),
        ("accuracy", format!("{} at {:.4}, the best threshold on these pairs", percent(v.accuracy), v.threshold)),
        ("AUC", format!("{:.4}", v.auc)),
        ("TAR @ FMR 1 %", percent(v.tar_at_fmr_1_percent)),
        ("EER", format!("{} at {:.4}", percent(v.equal_error_rate), v.equal_error_threshold)),
        ("min Cllr", format!("{:.4} bit", v.min_cllr)),
        ("mean similarity", format!("{:.3} genuine, {:.3} impostor", v.genuine_mean, v.impostor_mean)),
    ];
    if let Some(by_person) = &v.by_person {
        let row = format!("{} over {} people", between(by_person.equal_error_rate), by_person.people);
        rows.insert(5, ("EER, 95 %", row));
    }
    if let Some(decidability) = v.decidability {
        rows.push(("decidability d'", format!("{decidability:.2}")));
    }
    named("Verification", rows)
}

fn at_fmr(v: &Verification) -> ReportTable {
    let by_person = v.at_fmr.iter().any(|at| at.fnmr_by_person.is_some());
    let mut head = vec!["FMR at most", "threshold", "FMR observed", "FNMR", "95 % over pairs"];
    if by_person {
        head.push("95 % over people");
    }
    head.push("trials");
    let rows = v.at_fmr.iter().map(|at| {
        let mut row = vec![
            scarce(at.target_fmr),
            format!("{:.4}", at.threshold),
            format!("{} of {}", at.fmr.errors, at.fmr.trials),
            percent(at.fnmr.rate),
            between(at.fnmr.interval),
        ];
        if by_person {
            row.push(at.fnmr_by_person.map_or_else(String::new, between));
        }
        row.push(supported(at.support));
        row
    });
    table("FNMR at low FMR", &head, rows)
}

fn folds(folds: &Folds) -> ReportTable {
    let mut rows: Vec<Vec<String>> = folds
        .folds
        .iter()
        .enumerate()
        .map(|(fold, of)| vec![(fold + 1).to_string(), percent(of.accuracy), format!("{:.4}", of.threshold)])
        .collect();
    let all = format!("{:.2} +- {:.2} %", 100.0 * folds.accuracy, 100.0 * folds.standard_error);
    rows.push(vec!["mean +- standard error".to_owned(), all, String::new()]);
    table("Folds, each at the best threshold of the others", &["fold", "accuracy", "threshold"], rows.into_iter())
}

/// The means and the matrix of pairs.
fn pairwise(p: &Pairwise) -> [ReportTable; 2] {
    let mean = named("Pairwise", [("mean rank-1", format!("{} over {} pairs", percent(p.mean_rank_1), p.pairs.len()))]);
    let mut galleries: Vec<&str> = p.pairs.iter().map(|pair| &*pair.gallery).collect();
    galleries.sort_unstable();
    galleries.dedup();
    let head: Vec<&str> = ["probe"].into_iter().chain(galleries.iter().copied()).chain(["mean"]).collect();
    let rows = p.by_probe.iter().map(|(probe, mean)| {
        let cell = |gallery: &&str| {
            let pair = p.pairs.iter().find(|pair| pair.probe == *probe && pair.gallery == *gallery);
            pair.map_or_else(|| "-".to_owned(), |pair| percent(pair.rank_1))
        };
        let cells = galleries.iter().map(cell);
        std::iter::once(probe.clone()).chain(cells).chain([percent(*mean)]).collect()
    });
    [mean, table(&format!("Rank-1 by {} of probe and gallery", p.label), &head, rows)]
}

fn detection(d: &Detection) -> ReportTable {
    let rows = [
        ("boxes", format!("{} true, {} detected", d.boxes, d.detections)),
        ("AP with identities", percent(d.average_precision)),
        ("mean AP of persons", percent(d.mean_average_precision)),
        ("AP without identities", percent(d.without_names)),
    ];
    named("Detection and identification at an overlap of 0.5", rows)
}

fn retrieval(r: &Retrieval) -> ReportTable {
    let mut rows = vec![
        ("probes", format!("{} against {}", r.probes, r.gallery)),
        ("rank-1", format!("{}, 95 % over probes {}", percent(r.rank_1), between(r.rank_1_interval))),
        ("rank-5", percent(r.rank_5)),
        ("rank-10", percent(r.rank_10)),
        ("mAP", percent(r.map)),
    ];
    if let Some(interval) = r.rank_1_by_person {
        rows.insert(2, ("rank-1, 95 %", format!("{} over people", between(interval))));
    }
    named("Closed set", rows)
}

fn identification(i: &Identification) -> ReportTable {
    let rows = [
        ("enrolled", format!("{} people", i.enrolled)),
        ("probes", format!("{} mated, {} nonmated", i.mated_probes, i.nonmated_probes)),
        ("rank-1", format!("{} of the mated probes, at any similarity", percent(i.rank_1))),
    ];
    named("Open-set identification", rows)
}

fn at_fpir(i: &Identification) -> ReportTable {
    let by_person = i.at_fpir.iter().any(|at| at.fnir_by_person.is_some());
    let mut head = vec!["FPIR at most", "threshold", "FPIR observed", "FNIR", "DIR", "95 % of FNIR over probes"];
    if by_person {
        head.push("over people");
    }
    head.push("trials");
    let rows = i.at_fpir.iter().map(|at| {
        let mut row = vec![
            scarce(at.target_fpir),
            format!("{:.4}", at.threshold),
            format!("{} of {}", at.fpir.errors, at.fpir.trials),
            percent(at.fnir.rate),
            percent(at.dir),
            between(at.fnir.interval),
        ];
        if by_person {
            row.push(at.fnir_by_person.map_or_else(String::new, between));
        }
        row.push(supported(at.support));
        row
    });
    table("FNIR at low FPIR", &head, rows)
}

fn promised(i: &Identification) -> Option<ReportTable> {
    let rows = i.promised.iter().map(|promise| {
        vec![
            scarce(promise.target_fpir),
            format!("{:.4}", promise.threshold),
            format!("{} ({} of {})", scarce(promise.fpir.rate), promise.fpir.errors, promise.fpir.trials),
            between(promise.fpir.interval),
            percent(promise.fnir.rate),
        ]
    });
    let head = ["FPIR promised", "threshold", "FPIR observed", "95 %", "FNIR"];
    (!i.promised.is_empty()).then(|| table("FPIR targets from this gallery and observed FPIR", &head, rows))
}

fn decided(d: &Decided) -> ReportTable {
    let row = |kind: &str, rates: &AnswerRates, promise: String| {
        let cell = |rate: &AnswerRate| format!("{} ({})", percent(rate.rate.rate), between(rate.by_person));
        let AnswerRates { known_right, known_wrong, new, uncertain } = rates;
        vec![kind.to_owned(), cell(known_right), cell(known_wrong), cell(new), cell(uncertain), promise]
    };
    let bound = d.fpir_upper_bound.map(|bound| format!(", upper bound {}", scarce(bound))).unwrap_or_default();
    let promises = [
        format!("new at most {}", scarce(d.target_duplicates)),
        format!("known at most {}{bound}", scarce(d.target_fpir)),
    ];
    let [duplicates, fpir] = promises;
    let rows = [row("mated", &d.mated, duplicates), row("nonmated", &d.nonmated, fpir)];
    let head = ["probes", "known, right", "known, wrong", "new", "uncertain", "promised"];
    table("Answers of resolve with the default policy, 95 % over people", &head, rows.into_iter())
}

/// The result, its course, and the baselines if there are any.
fn stream(s: &Stream) -> Vec<ReportTable> {
    let agreement = |a: &ClusterAgreement| [percent(a.precision), percent(a.recall), format!("{:.4}", a.f1)];
    let result = [
        ("sightings", format!("{} of {} people", s.sightings, s.persons)),
        ("identities", format!("{}, {:.2} per person", s.agreement.clusters, s.identities_per_person)),
        ("people split", format!("{} have several identities", s.agreement.persons_split)),
        ("identities mixed", format!("{} have sightings of several people", s.agreement.clusters_mixed)),
        ("uncertain", format!("{} answers", s.uncertain)),
        ("provisional", format!("{} sightings of identities that are provisional at the end", s.provisional)),
        ("wrong", format!("{} sightings known as another person", s.wrong)),
    ];
    let moments = s.over_time.iter().map(|moment| {
        let counts = [moment.sightings, moment.persons, moment.agreement.clusters, moment.uncertain];
        counts.iter().map(usize::to_string).chain(agreement(&moment.agreement)).collect()
    });
    let baselines = s.baselines.iter().map(|of| {
        let chosen = [of.method.to_owned(), of.chosen.to_owned(), format!("{:.2}", of.similarity)];
        let identities = [format!("{:.2}", of.agreement.clusters as f64 / s.persons as f64)];
        chosen.into_iter().chain(identities).chain(agreement(&of.agreement)).collect()
    });
    let head = ["sightings", "people", "identities", "uncertain", "precision", "recall", "F1"];
    let beside = ["method", "threshold chosen", "threshold", "identities per person", "precision", "recall", "F1"];
    let title = match s.policy {
        UncertainRule::Off => "Stream into an empty collection, default policy",
        UncertainRule::Provisional => "Stream into an empty collection, with provisional identities",
    };
    let mut tables = vec![named(title, result), table("Over time, agreement by pairs of sightings", &head, moments)];
    if !s.baselines.is_empty() {
        tables.push(table("Baselines on the same sightings", &beside, baselines));
    }
    tables
}

fn calibration(c: &CalibrationResults) -> ReportTable {
    let d = &c.decisions;
    let counted = |rate: &Rate| format!("{} ({} of {})", percent(rate.rate), rate.errors, rate.trials);
    let rows = [
        ("Cllr", format!("{:.4} bit, of which {:.4} by miscalibration", c.cllr, c.cllr - c.min_cllr)),
        ("ECE", format!("{:.4}, the worst bin {:.4}", d.reliability.ece, d.reliability.mce)),
        ("Brier score", format!("{:.4}", d.reliability.brier)),
        ("balanced accuracy", format!("{} at even odds", percent(d.balanced_accuracy))),
        ("missed", counted(&d.missed)),
        ("false alarms", counted(&d.false_alarms)),
    ];
    named("Calibration", rows)
}

/// One table per label.
fn slices(slices: &[Slice]) -> Vec<ReportTable> {
    let mut tables: Vec<ReportTable> = Vec::new();
    for slice in slices {
        let (head, row): (&[&str], Vec<String>) = match &slice.results {
            Results::Verification(v) => {
                let at = &v.at_fmr[0];
                let row = [v.genuine_pairs.to_string(), v.impostor_pairs.to_string()];
                let rates = [percent(v.equal_error_rate), percent(at.fnmr.rate), supported(at.support)];
                (&["genuine", "impostor", "EER", "FNMR @ FMR 1 %", "trials"], row.into_iter().chain(rates).collect())
            }
            Results::Retrieval(r) => {
                let people = r.rank_1_by_person.map_or_else(String::new, between);
                let row = [r.probes.to_string(), percent(r.rank_1), people, percent(r.rank_5), percent(r.map)];
                (&["probes", "rank-1", "95 % over people", "rank-5", "mAP"], row.into())
            }
            Results::Identification(i) => {
                let at = &i.at_fpir[0];
                let row = [i.mated_probes.to_string(), i.nonmated_probes.to_string()];
                let rates = [percent(i.rank_1), percent(at.fnir.rate), supported(at.support)];
                (&["mated", "nonmated", "rank-1", "FNIR @ FPIR 1 %", "trials"], row.into_iter().chain(rates).collect())
            }
            Results::Pairwise(p) => {
                (&["pairs", "mean rank-1"], vec![p.pairs.len().to_string(), percent(p.mean_rank_1)])
            }
            Results::Detection(d) => {
                (&["boxes", "AP with identities"], vec![d.boxes.to_string(), percent(d.average_precision)])
            }
            Results::Stream(s) => {
                let row = [s.sightings.to_string(), s.persons.to_string(), s.agreement.clusters.to_string()];
                (
                    &["sightings", "people", "identities", "F1"],
                    row.into_iter().chain([format!("{:.4}", s.agreement.f1)]).collect(),
                )
            }
        };
        let title = format!("By {}", slice.label);
        if tables.last().is_none_or(|table| table.title != title) {
            let head = std::iter::once(&*slice.label).chain(head.iter().copied()).map(str::to_owned).collect();
            tables.push(ReportTable { title, head, rows: Vec::new() });
        }
        let rows = &mut tables.last_mut().expect("one was pushed").rows;
        rows.push(std::iter::once(slice.value.clone()).chain(row).collect());
    }
    tables
}

fn beside(beside: &[Comparison]) -> Option<ReportTable> {
    let rows = beside.iter().map(|Comparison { method, gallery, retrieval: r }| {
        vec![(*method).to_owned(), (*gallery).to_owned(), percent(r.rank_1), percent(r.rank_5), percent(r.map)]
    });
    (!beside.is_empty()).then(|| table("Beside it", &["method", "gallery", "rank-1", "rank-5", "mAP"], rows))
}

fn named<'n>(title: &str, rows: impl IntoIterator<Item = (&'n str, String)>) -> ReportTable {
    table(title, &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

fn table(title: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> ReportTable {
    ReportTable {
        title: title.to_owned(),
        head: head.iter().map(|name| (*name).to_owned()).collect(),
        rows: rows.collect(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A small rate with two significant digits.
fn scarce(rate: f64) -> String {
    let power = if rate > 0.0 { (100.0 * rate).log10().floor() } else { 1.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 8")]
    let written = format!("{:.*}", (1.0 - power).clamp(0.0, 8.0) as usize, 100.0 * rate);
    let is_whole = !written.contains('.');
    let written = if is_whole { &written } else { written.trim_end_matches('0').trim_end_matches('.') };
    format!("{written} %")
}

fn between(interval: Interval) -> String {
    format!("{:.2} to {:.2} %", 100.0 * interval.low, 100.0 * interval.high)
}

fn supported(support: Support) -> String {
    match support {
        Support::Supported => "enough".to_owned(),
        Support::TooFewTrials { needed } => format!("too few: {needed} are needed"),
    }
}

impl fmt::Display for ReportTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.title.is_empty() {
            writeln!(f, "{}", self.title)?;
        }
        let head = (!self.head.is_empty()).then_some(&self.head);
        let mut widths: Vec<usize> = Vec::new();
        for row in head.into_iter().chain(&self.rows) {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in head.into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // First columns are left-aligned, numbers under a header right-aligned.
                if place == 0 || head.is_none() {
                    write!(line, "{cell:width$}  ")?;
                } else {
                    write!(line, "{cell:>width$}  ")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_keep_significant_digits() {
        let written = [0.5, 0.01, 0.003, 0.001, 1e-4, 1e-5, 0.0].map(scarce);
        assert_eq!(written, ["50 %", "1 %", "0.3 %", "0.1 %", "0.01 %", "0.001 %", "0 %"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "100".to_owned()]];
        let shown = table("Title", &["name", "n"], rows.into_iter()).to_string();
        assert_eq!(shown, "Title\nname    n\na       1\nlong  100\n");
    }
}
