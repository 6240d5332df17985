//! A space at one moment, for whoever compares everybody with everybody: who is enrolled twice, and which templates are
//! one person whatever names they bear.
//!
//! A survey is a snapshot. It keeps nobody waiting, and what is forgotten meanwhile is still in what it answers: whoever
//! shows that must look whether the templates are there.

pub(crate) mod cluster;
pub(crate) mod join;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    roster::Slot,
    rows::Rows,
    survey::{
        cluster::cluster,
        join::{JoinError, JoinProgress, JoinWatch, Near, Wanted, join},
    },
};
use domain::{Pooling, Similarity, TemplateId};
use ranking::{Pools, Said};

/// The templates of a space that were there when it was taken, of those identities that a filter accepts and whose time
/// has not come.
#[derive(Debug)]
pub struct Survey {
    rows: Rows,
    /// For each row, whether it takes part.
    admitted: Vec<bool>,
    identities: usize,
    templates: usize,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alike {
    /// From this similarity on.
    pub level: Similarity,
    /// The most pairs of templates that may be kept in hand.
    pub pairs_max: usize,
}

/// Two identities that are alike, by the two of their templates that are most so: the lower id first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Duplicate {
    pub templates: [TemplateId; 2],
    /// Of these two.
    pub best: Similarity,
    /// As the templates of an identity speak together: the highest that a template of the one reaches with the other.
    pub similarity: Similarity,
}

/// A template in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouped {
    pub template: TemplateId,
    /// A number for its identity, which all its templates share; good for this survey alone.
    pub owner: u32,
}

impl Survey {
    pub(crate) fn of(rows: Rows, admitted: Vec<bool>) -> Self {
        let taking_part = || admitted.iter().enumerate().filter(|(_, admitted)| **admitted);
        let owners: HashSet<Slot> = taking_part().map(|(row, _)| rows.owner(row)).collect();
        let (identities, templates) = (owners.len(), taking_part().count());
        Self { rows, admitted, identities, templates }
    }

    /// How many identities take part.
    #[must_use]
    pub fn identities(&self) -> u64 {
        self.identities as u64
    }

    /// How many templates take part.
    #[must_use]
    pub fn templates(&self) -> u64 {
        self.templates as u64
    }

    /// Pairs of different identities that reach the level, the most similar first, ties by templates' ids. Where templates weigh
    /// each other (prototypes, centralised ones), by their most similar templates: a sum of templates may be nearer than any.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn duplicates(
        &self,
        alike: Alike,
        pooling: Pooling,
        watch: &mut JoinWatch<'_>,
    ) -> Result<Vec<Duplicate>, JoinError> {
        let rows = &self.rows;
        // Pooled similarities are means of some of those that templates have one by one: without one such that reaches the
        // level, no mean does.
        let pairs = self.join(alike, &|one, other| rows.owner(one) != rows.owner(other), watch)?;
        let mut best: BTreeMap<[Slot; 2], Near> = BTreeMap::new();
        for near in pairs {
            let mut owners = near.rows.map(|row| rows.owner(row as usize));
            owners.sort_unstable();
            let known = best.entry(owners).or_insert(near);
            let is_nearer = near.similarity.total_cmp(&known.similarity);
            // Of equals the templates with the lowest ids, whatever the order of rows.
            if is_nearer.then_with(|| self.templates_of(known).cmp(&self.templates_of(&near))).is_gt() {
                *known = near;
            }
        }
        let owned = if pooling == Pooling::Best { HashMap::new() } else { self.owned() };
        let duplicate = |(owners, near): ([Slot; 2], Near)| {
            let best = Similarity(near.similarity);
            let similarity = match pooling {
                Pooling::Best | Pooling::Prototype | Pooling::Centralised => best,
                Pooling::MeanOfBest(_) | Pooling::ByQuality => self.pooled(owners.map(|o| &owned[&o][..]), pooling),
            };
            Duplicate { templates: self.templates_of(&near), best, similarity }
        };
        let mut found: Vec<Duplicate> =
            best.into_iter().map(duplicate).filter(|d| d.similarity >= alike.level).collect();
        found.sort_unstable_by(|one, other| {
            other.similarity.total_cmp(&one.similarity).then(one.templates.cmp(&other.templates))
        });
        Ok(found)
    }

    /// Groups of templates by average linkage: of one whose mean similarity reaches the level. Each in order of ids, the
    /// group with the lowest id first; who stands alone is a group too.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn clusters(&self, alike: Alike, watch: &mut JoinWatch<'_>) -> Result<Vec<Vec<Grouped>>, JoinError> {
        let mut last = JoinProgress::default();
        let noting = &mut |progress| {
            last = progress;
            watch(progress)
        };
        let pairs = self.join(alike, &|_, _| true, noting)?;
        let members = (0..self.rows.len()).filter(|row| self.admitted[*row]).collect();
        let groups = cluster(&self.rows, members, &pairs, alike.level.0, &mut || watch(last))?;
        let grouped = |row| Grouped { template: self.rows.template(row), owner: self.rows.owner(row).0 };
        Ok(groups.into_iter().map(|group| group.into_iter().map(grouped).collect()).collect())
    }

    fn join(
        &self,
        alike: Alike,
        counts: &dyn Fn(usize, usize) -> bool,
        watch: &mut JoinWatch<'_>,
    ) -> Result<Vec<Near>, JoinError> {
        let counts = |one: usize, other: usize| self.admitted[one] && self.admitted[other] && counts(one, other);
        join(&self.rows, &Wanted { level: alike.level.0, pairs_max: alike.pairs_max, counts: &counts }, watch)
    }

    /// The rows of each identity that takes part, in the order of their templates, so that sums are the same anywhere.
    fn owned(&self) -> HashMap<Slot, Vec<usize>> {
        let mut owned: HashMap<Slot, Vec<usize>> = HashMap::new();
        for row in (0..self.rows.len()).filter(|row| self.admitted[*row]) {
            owned.entry(self.rows.owner(row)).or_default().push(row);
        }
        for rows in owned.values_mut() {
            rows.sort_unstable_by_key(|row| self.rows.template(*row));
        }
        owned
    }

    /// The highest that a template of either reaches with all of the other.
    fn pooled(&self, [one, other]: [&[usize]; 2], pooling: Pooling) -> Similarity {
        let rows = &self.rows;
        let with = |probe: &usize, all: &[usize]| {
            let said = |row: &usize| {
                let similarity = rows.measure().of(rows.values(*probe), rows.values(*row));
                Said { similarity, quality: rows.quality(*row), share: 1.0 }
            };
            Pools::one(pooling, all.iter().map(said)).unwrap_or(Similarity::LOWEST.0)
        };
        let each = one.iter().map(|row| with(row, other)).chain(other.iter().map(|row| with(row, one)));
        Similarity(each.fold(Similarity::LOWEST.0, f32::max))
    }

    fn templates_of(&self, near: &Near) -> [TemplateId; 2] {
        let mut templates = near.rows.map(|row| self.rows.template(row as usize));
        templates.sort_unstable();
        templates
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, ops::ControlFlow, sync::Arc};

    use super::*;
    use crate::{
        GalleryOptions,
        collection::Shelf,
        testbed::{Writer, embedding, now, shelf, space, unit_rows},
    };
    use domain::Filter;

    const ANY_NUMBER: usize = usize::MAX;

    fn alike(level: f32) -> Alike {
        Alike { level: Similarity(level), pairs_max: ANY_NUMBER }
    }

    /// Whose each template is, and a survey of all.
    struct Enrolled {
        shelf: Arc<Shelf>,
        names: HashMap<TemplateId, String>,
        dimension: u32,
    }

    impl Enrolled {
        fn new(templates: &[(String, Vec<f32>)]) -> Self {
            let dimension = templates[0].1.len();
            let (shelf, mut writer) = (shelf(GalleryOptions::default()), Writer::new(dimension));
            let mut names = HashMap::new();
            for (name, values) in templates {
                let entries = writer.enroll(name, values);
                names.extend(entries.iter().filter_map(|entry| Some((entry.template?, name.clone()))));
                shelf.apply(&entries).expect("in order");
            }
            Self { shelf, names, dimension: u32::try_from(dimension).expect("short") }
        }

        fn survey(&self, filter: Option<&Filter>) -> Survey {
            self.shelf.survey(space(self.dimension), filter, now()).expect("somebody is enrolled")
        }

        fn duplicates(&self, level: f32, pooling: Pooling) -> Vec<([&str; 2], Similarity)> {
            let found = self.survey(None).duplicates(alike(level), pooling, &mut |_| ControlFlow::Continue(()));
            let named = |found: Duplicate| {
                let mut names = found.templates.map(|template| &*self.names[&template]);
                names.sort_unstable();
                (names, found.similarity)
            };
            found.expect("nobody stopped it").into_iter().map(named).collect()
        }

        fn clusters(&self, level: f32) -> Vec<Vec<&str>> {
            let found = self.survey(None).clusters(alike(level), &mut |_| ControlFlow::Continue(()));
            let named = |group: Vec<Grouped>| group.iter().map(|grouped| &*self.names[&grouped.template]).collect();
            found.expect("nobody stopped it").into_iter().map(named).collect()
        }
    }

    /// So many templates of each person, about a direction of his own.
    fn simulated(people: usize, each: usize, noise: f32) -> Vec<(String, Vec<f32>)> {
        let dimension = 128;
        let (centres, noises) = (unit_rows(people, dimension, 11), unit_rows(people * each, dimension, 12));
        let template = |(at, noises): (usize, &Vec<f32>)| {
            let sum: Vec<f32> = centres[at % people].iter().zip(noises).map(|(c, n)| c + n * noise).collect();
            (format!("p{:03}", at % people), embedding(&sum).values().to_vec())
        };
        noises.iter().enumerate().map(template).collect()
    }

    /// (Pairwise precision, recall) of groups against the people in them.
    fn pairwise(groups: &[Vec<&str>]) -> (f64, f64) {
        let pairs = |count: usize| (count * count.saturating_sub(1) / 2) as f64;
        let (mut together, mut right) = (0.0, 0.0);
        let mut people: HashMap<&str, usize> = HashMap::new();
        for group in groups {
            let mut here: HashMap<&str, usize> = HashMap::new();
            for person in group {
                *here.entry(person).or_default() += 1;
                *people.entry(person).or_default() += 1;
            }
            together += pairs(group.len());
            right += here.values().map(|count| pairs(*count)).sum::<f64>();
        }
        (right / together, right / people.values().map(|count| pairs(*count)).sum::<f64>())
    }

    #[test]
    fn clusters_recover_simulated_identities() {
        // Two templates of one person are alike by .5 on average, as faces of the wild are.
        let enrolled = Enrolled::new(&simulated(200, 5, 1.0));
        let (precision, recall) = pairwise(&enrolled.clusters(0.35));
        let f1 = 2.0 * precision * recall / (precision + recall);
        assert!(f1 >= 0.95, "F1 {f1:.4}, precision {precision:.4}, recall {recall:.4}");
    }

    #[test]
    fn who_is_enrolled_under_two_names_is_found_and_nobody_else() {
        let mut templates = simulated(100, 4, 0.8);
        // The last ones of the first ten bear another name.
        for (name, _) in templates.iter_mut().skip(200).filter(|(name, _)| name.as_str() < "p010") {
            name.push_str("-again");
        }
        let enrolled = Enrolled::new(&templates);
        for pooling in [Pooling::Best, Pooling::MeanOfBest(NonZeroU32::MIN.saturating_add(1)), Pooling::ByQuality] {
            let found = enrolled.duplicates(0.45, pooling);
            assert_eq!(found.len(), 10, "{pooling:?}: {found:?}");
            for ([one, other], _) in &found {
                assert_eq!(*other, format!("{one}-again"));
            }
            assert!(found.is_sorted_by(|(_, one), (_, other)| one >= other));
        }
        let best = enrolled.duplicates(0.45, Pooling::Best);
        let all = enrolled.duplicates(0.45, Pooling::ByQuality);
        assert!(best[0].1 > all[0].1, "a mean is below the best");
    }

    #[test]
    fn a_filter_decides_who_takes_part() {
        let values = unit_rows(1, 32, 4).remove(0);
        let named = |name: &str| (name.to_owned(), values.clone());
        let enrolled = Enrolled::new(&[named("a"), named("b"), named("c")]);
        assert_eq!((enrolled.survey(None).identities(), enrolled.survey(None).templates()), (3, 3));
        let found = enrolled.duplicates(0.9, Pooling::Best);
        assert_eq!(found.iter().map(|(names, _)| *names).collect::<Vec<_>>(), [["a", "b"], ["a", "c"], ["b", "c"]]);
        let filter = Filter::parse("labels.site = \"north\"").expect("valid");
        let none = enrolled.survey(Some(&filter));
        assert_eq!((none.identities(), none.templates()), (0, 0));
        let watch = &mut |_| ControlFlow::Continue(());
        assert_eq!(none.duplicates(alike(0.9), Pooling::Best, watch), Ok(Vec::new()));
        assert_eq!(none.clusters(alike(0.9), watch), Ok(Vec::new()));
    }

    /// Every tenth of those with several pictures bears a second name on half of them. The bounds leave room below what was
    /// measured: 56 of 86 duplicates among 142 pairs (some of which are LFW's own mislabelled ones), and clusters of precision
    /// .983 and recall .909, which is what SciPy's linkage makes of the same numbers.
    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    #[expect(clippy::print_stderr, reason = "the measured figures are what the test is for")]
    fn faces_under_two_names_are_found_on_real_data() {
        let faces = testing::embeddings("lfw_mobilefacenet");
        let mut count: HashMap<&str, usize> = HashMap::new();
        for (image, _) in &faces {
            *count.entry(testing::lfw_person(image)).or_default() += 1;
        }
        let mut several: Vec<&str> = count.iter().filter(|(_, count)| **count >= 2).map(|(name, _)| *name).collect();
        several.sort_unstable();
        let twice: HashSet<&str> = several.into_iter().step_by(10).collect();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut templates = Vec::new();
        for (image, values) in &faces {
            let person = testing::lfw_person(image);
            let number = seen.entry(person).or_default();
            *number += 1;
            let again = if twice.contains(person) && number.is_multiple_of(2) { "-again" } else { "" };
            templates.push((format!("{person}{again}"), embedding(values).values().to_vec()));
        }
        let enrolled = Enrolled::new(&templates);
        let found = enrolled.duplicates(0.6, Pooling::Best);
        let right = found.iter().filter(|([one, other], _)| *other == format!("{one}-again")).count();
        let (precision, recall) = (right as f64 / found.len() as f64, right as f64 / twice.len() as f64);
        eprintln!("{right} of {} duplicates among {} pairs", twice.len(), found.len());
        assert!(precision >= 0.35 && recall >= 0.6, "precision {precision:.3}, recall {recall:.3}");

        let groups = enrolled.clusters(0.45);
        let people: Vec<Vec<&str>> =
            groups.iter().map(|group| group.iter().map(|name| name.trim_end_matches("-again")).collect()).collect();
        let (precision, recall) = pairwise(&people);
        eprintln!("clusters: pairwise precision {precision:.4}, recall {recall:.4}");
        assert!(precision >= 0.97 && recall >= 0.89, "precision {precision:.4}, recall {recall:.4}");
    }
}
