//! The report as JSON and for the console.

use std::fmt;

use serde::Serialize;

use super::Estimate;

/// The report of the protocol `open-set`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetReport {
    pub decider: String,
    pub version: String,
    pub provenance: String,
    /// Microseconds per decision of the set transformer on one thread.
    pub microseconds_each: f64,
    pub sets: Vec<OpenSetTable>,
}

/// All methods on one set of galleries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetTable {
    pub name: String,
    pub galleries: usize,
    pub probes: usize,
    pub resampled_by: &'static str,
    pub rows: Vec<OpenSetRow>,
    pub by_size: Vec<SizeRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetRow {
    pub method: &'static str,
    /// Over all galleries; `None` for methods without a common scale.
    pub auc: Option<Estimate>,
    pub balanced_accuracy: Estimate,
    /// For methods with a probability.
    pub ece: Option<Estimate>,
}

/// Galleries of one size class.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SizeRow {
    pub identities: &'static str,
    pub probes: usize,
    /// Balanced accuracy of each method.
    pub balanced_accuracy: Vec<(&'static str, f64)>,
}

impl OpenSetReport {
    /// The tables only.
    #[must_use]
    pub fn tables(&self) -> String {
        self.sets.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for OpenSetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}: {}", self.decider, self.version, self.provenance)?;
        write!(f, "{:.0} microseconds a decision\n\n{}", self.microseconds_each, self.tables())
    }
}

impl fmt::Display for OpenSetTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, galleries, probes, resampled_by, .. } = self;
        writeln!(f, "{name}: {probes} probes in {galleries} galleries, 95 % intervals by {resampled_by}")?;
        write!(f, "{:35}{:<18}{:<18}ECE", "", "AUC", "balanced accuracy")?;
        for OpenSetRow { method, auc, balanced_accuracy, ece } in &self.rows {
            let cell = |estimate: &Option<Estimate>| estimate.map_or_else(|| "-".to_owned(), |some| some.to_string());
            let (auc, accuracy, ece) = (cell(auc), balanced_accuracy.to_string(), cell(ece));
            write!(f, "\n{method:35}{auc:<18}{accuracy:<18}{ece}")?;
        }
        write!(f, "\nbalanced accuracy by identities   ")?;
        self.by_size.iter().try_for_each(|row| write!(f, " {:>10}", row.identities))?;
        for (place, OpenSetRow { method, .. }) in self.rows.iter().enumerate() {
            write!(f, "\n{method:34}")?;
            self.by_size.iter().try_for_each(|row| write!(f, " {:>10.3}", row.balanced_accuracy[place].1))?;
        }
        Ok(())
    }
}

impl fmt::Display for Estimate {
    /// `.912 [.901-.921]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |share: f64| format!("{share:.3}").trim_start_matches('0').to_owned();
        write!(f, "{} [{}-{}]", short(self.value), short(self.interval.low), short(self.interval.high))
    }
}
