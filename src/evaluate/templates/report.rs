//! The report as JSON and for the console.

use std::fmt;

use serde::Serialize;

use super::Estimate;

/// One set in the report of the protocol `templates`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Templates {
    pub name: String,
    /// Number of draws of templates and probes.
    pub draws: u32,
    /// Galleries of persons with five samples or more, and of all persons.
    pub tables: Vec<TemplatesTable>,
}

/// All methods on one gallery.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TemplatesTable {
    pub identities: usize,
    /// Probe persons, the resampling units of intervals.
    pub people: usize,
    /// Probes in all draws.
    pub probes: usize,
    /// The enrolled samples of each column.
    pub columns: Vec<&'static str>,
    pub rows: Vec<MethodRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodRow {
    pub way: &'static str,
    /// One cell per column.
    pub cells: Vec<MethodCell>,
    /// Loss caused by the swapped sample.
    pub lost: SwapLoss,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MethodCell {
    pub rank_1: Estimate,
    /// Mean reciprocal rank over identities.
    pub map: Estimate,
    /// Mean average precision over templates, for methods that rank templates.
    pub map_of_templates: Option<Estimate>,
    /// Share of searches with enough templates for re-ranking.
    pub reranked: Option<f64>,
}

/// Difference between four own templates and four with one of another person.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SwapLoss {
    /// Loss of rank 1.
    pub rank_1: Estimate,
    /// Loss relative to the plain mean's; `None` if that is zero.
    pub of_plain_mean: Option<Estimate>,
}

impl fmt::Display for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, table) in self.tables.iter().enumerate() {
            if number > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "{}, {} draws: {table}", self.name, self.draws)?;
        }
        Ok(())
    }
}

impl fmt::Display for TemplatesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identities, people, probes, columns, .. } = self;
        write!(f, "{probes} probes of {people} people among {identities}, 95 % intervals by person")?;
        let head = |f: &mut fmt::Formatter<'_>, name: &str| {
            write!(f, "\n{name:<22}")?;
            columns.iter().try_for_each(|column| write!(f, "{column:<18}"))
        };
        head(f, "rank 1")?;
        write!(f, "{:<18}of the plain mean's", "lost by the swap")?;
        for MethodRow { way, cells, lost } in &self.rows {
            write!(f, "\n{way:<22}")?;
            cells.iter().try_for_each(|cell| write!(f, "{:<18}", cell.rank_1.to_string()))?;
            let share = lost.of_plain_mean.map_or_else(|| "-".to_owned(), |share| format!("{:.2}", share.value));
            let interval = lost.of_plain_mean.map(|share| share.interval);
            write!(f, "{:<18.3}{share}", lost.rank_1.value)?;
            interval.map_or(Ok(()), |interval| write!(f, " [{:.2} to {:.2}]", interval.low, interval.high))?;
        }
        head(f, "mAP of identities")?;
        for MethodRow { way, cells, .. } in &self.rows {
            write!(f, "\n{way:<22}")?;
            cells.iter().try_for_each(|cell| write!(f, "{:<18}", cell.map.to_string()))?;
        }
        head(f, "mAP of templates")?;
        for MethodRow { way, cells, .. } in self.rows.iter().filter(|row| row.cells[0].map_of_templates.is_some()) {
            write!(f, "\n{way:<22}")?;
            let cell = |cell: &MethodCell| cell.map_of_templates.map_or_else(|| "-".to_owned(), |map| map.to_string());
            cells.iter().try_for_each(|one| write!(f, "{:<18}", cell(one)))?;
        }
        head(f, "searches re-ranked")?;
        for MethodRow { way, cells, .. } in self.rows.iter().filter(|row| row.cells[0].reranked.is_some()) {
            write!(f, "\n{way:<22}")?;
            cells.iter().try_for_each(|cell| write!(f, "{:<18.3}", cell.reranked.unwrap_or(0.0)))?;
        }
        Ok(())
    }
}
