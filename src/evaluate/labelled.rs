//! A labelled set: samples with embeddings, persons and labels.

use std::collections::{BTreeMap, HashMap};

use super::EvaluateError;
use domain::Embedding;

/// Name, person and labels of one sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SampleIdentity {
    pub name: String,
    pub person: String,
    /// Labels for slicing, such as camera, site, clothes or age.
    pub labels: BTreeMap<String, String>,
}

/// Samples of one embedding space.
#[derive(Debug)]
pub struct Labelled {
    known: Vec<SampleIdentity>,
    /// `None` for samples that could not be encoded.
    embeddings: Vec<Option<Embedding>>,
    /// The person of each sample, as an index.
    people_of: Vec<u32>,
    /// The samples of each person, in order; persons in order of first appearance.
    people: Vec<Vec<usize>>,
}

impl Labelled {
    /// # Errors
    /// [`EvaluateError::Unusable`] when the numbers of embeddings and samples differ, there is none, or they belong to
    /// several spaces.
    pub fn new(known: Vec<SampleIdentity>, embeddings: Vec<Option<Embedding>>) -> Result<Self, EvaluateError> {
        if known.len() != embeddings.len() {
            let problem =
                format!("{} names for {} embeddings; the numbers must be equal", known.len(), embeddings.len());
            return Err(EvaluateError::Unusable(problem));
        }
        if known.is_empty() {
            return Err(EvaluateError::Unusable("there is no sample".to_owned()));
        }
        let mut spaces = embeddings.iter().zip(&known).filter_map(|(e, known)| Some((e.as_ref()?.space(), known)));
        if let Some((first, _)) = spaces.next()
            && let Some((_, known)) = spaces.find(|(space, _)| *space != first)
        {
            let problem =
                format!("{} is of another model than the samples before it; they cannot be compared", known.name);
            return Err(EvaluateError::Unusable(problem));
        }
        let mut places: HashMap<&str, u32> = HashMap::new();
        let mut people: Vec<Vec<usize>> = Vec::new();
        let mut people_of = Vec::with_capacity(known.len());
        for (sample, known) in known.iter().enumerate() {
            let next = u32::try_from(people.len()).expect("fewer people than fit into memory");
            let place = *places.entry(&known.person).or_insert(next);
            if place == next {
                people.push(Vec::new());
            }
            people[place as usize].push(sample);
            people_of.push(place);
        }
        Ok(Self { known, embeddings, people_of, people })
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Number of samples that could not be encoded.
    pub fn refused(&self) -> usize {
        self.embeddings.iter().filter(|e| e.is_none()).count()
    }

    pub(super) fn people(&self) -> &[Vec<usize>] {
        &self.people
    }

    /// The index of a sample's person.
    pub(super) fn person(&self, sample: usize) -> u32 {
        self.people_of[sample]
    }

    pub(super) fn label(&self, sample: usize, label: &str) -> Option<&str> {
        self.known[sample].labels.get(label).map(String::as_str)
    }

    /// The values of a label, sorted.
    ///
    /// # Errors
    /// [`EvaluateError::Unusable`] when no sample has it.
    pub(super) fn values_of(&self, label: &str) -> Result<Vec<String>, EvaluateError> {
        let mut values: Vec<&String> = self.known.iter().filter_map(|known| known.labels.get(label)).collect();
        values.sort_unstable();
        values.dedup();
        if values.is_empty() {
            let mut there: Vec<&String> = self.known.iter().flat_map(|known| known.labels.keys()).collect();
            there.sort_unstable();
            there.dedup();
            let problem = format!("no sample has the label {label:?}; existing labels: {there:?}");
            return Err(EvaluateError::Unusable(problem));
        }
        Ok(values.into_iter().cloned().collect())
    }

    /// `None` if the sample could not be encoded.
    pub(super) fn embedding(&self, sample: usize) -> Option<&Embedding> {
        self.embeddings[sample].as_ref()
    }

    /// The similarity of two samples; -1 if one could not be encoded.
    pub(super) fn similarity(&self, one: usize, other: usize) -> f32 {
        super::similarity(self.embeddings[one].as_ref(), self.embeddings[other].as_ref())
    }
}

#[cfg(test)]
pub(super) mod fixtures {
    use super::*;
    use domain::{EmbeddingSpace, Modality, ModelDigest};

    pub(crate) fn space(dimension: usize) -> EmbeddingSpace {
        EmbeddingSpace::whole(Modality::Face, ModelDigest([7; 32]), u32::try_from(dimension).expect("small"))
    }

    pub(crate) fn embedding(values: &[f32]) -> Embedding {
        Embedding::new(space(values.len()), values).expect("a direction")
    }

    /// Embeddings whose names tell the person.
    pub(crate) fn named(rows: &[(String, Vec<f32>)], person: fn(&str) -> &str) -> Labelled {
        let known = rows.iter().map(|(name, _)| SampleIdentity {
            name: name.clone(),
            person: person(name).to_owned(),
            labels: BTreeMap::new(),
        });
        let embeddings = rows.iter().map(|(_, values)| Some(embedding(values)));
        Labelled::new(known.collect(), embeddings.collect()).expect("a set")
    }

    /// Samples `(person, label "camera", direction in degrees)` in a plane.
    pub(crate) fn plane(samples: &[(&str, &str, f32)]) -> Labelled {
        let known = samples.iter().enumerate().map(|(number, (person, camera, _))| SampleIdentity {
            name: format!("{number}"),
            person: (*person).to_owned(),
            labels: BTreeMap::from([("camera".to_owned(), (*camera).to_owned())]),
        });
        let directions = samples.iter().map(|(_, _, degrees)| {
            let (y, x) = degrees.to_radians().sin_cos();
            Some(embedding(&[x, y]))
        });
        Labelled::new(known.collect(), directions.collect()).expect("a set")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(person: &str) -> SampleIdentity {
        SampleIdentity { name: format!("{person}.jpg"), person: person.to_owned(), labels: BTreeMap::new() }
    }

    #[test]
    fn mismatched_samples_and_embeddings_are_refused() {
        let two = fixtures::embedding(&[1.0, 0.0]);
        let three = fixtures::embedding(&[1.0, 0.0, 0.0]);
        let problem = |known, embeddings| Labelled::new(known, embeddings).expect_err("unusable").to_string();
        let few = problem(vec![known("a")], vec![Some(two.clone()), None]);
        assert!(few.contains("1 names for 2 embeddings"), "{few}");
        assert!(problem(vec![], vec![]).contains("no sample"));
        let mixed = problem(vec![known("a"), known("b")], vec![Some(two), Some(three)]);
        assert!(mixed.contains("b.jpg is of another model"), "{mixed}");
    }

    #[test]
    fn an_unknown_label_is_reported_with_the_existing_ones() {
        let set = fixtures::plane(&[("a", "c1", 0.0), ("b", "c2", 90.0), ("a", "c1", 10.0)]);
        assert_eq!(set.values_of("camera").expect("there"), ["c1", "c2"]);
        assert!(set.values_of("site").expect_err("none").to_string().contains("camera"));
        assert_eq!(set.people(), [vec![0, 2], vec![1]]);
    }
}
