//! Searches a gallery by every method.

use super::{EnrolledSamples, METHODS, RankingMethod, SampleSet, SearchOutcome};
use crate::metrics::RankingOutcome;
use domain::{Pooling, Ranking, Reranking};
use ranking::{Accumulators, Shortlist, TemplateSimilarity};

/// Above every score: the shortlist precedes all other templates.
const AHEAD: f64 = 10.0;

pub(super) struct TemplateGallery<'c> {
    set: &'c SampleSet,
    enrolled: EnrolledSamples,
    /// The sample of each template.
    samples: Vec<usize>,
    owners: Vec<usize>,
    /// The templates of each identity.
    identities: Vec<Vec<usize>>,
    /// Weight of each template in the plain mean and in the prototype, and its centralised weight.
    plain: Vec<f32>,
    prototype: Vec<f32>,
    centralised: Vec<f32>,
}

/// A search before re-ranking.
struct TemplateSearch<'a> {
    /// Identities, the most similar first.
    nearest: &'a [usize],
    /// The identity of the probe.
    right: usize,
    /// The similarity of each template.
    cosines: &'a [f32],
}

impl<'c> TemplateGallery<'c> {
    /// Enrolls the samples of each identity.
    pub(super) fn new(set: &'c SampleSet, identities: Vec<Vec<usize>>, enrolled: EnrolledSamples) -> Self {
        let mut gallery = Self {
            set,
            enrolled,
            samples: Vec::new(),
            owners: Vec::new(),
            identities: Vec::new(),
            plain: Vec::new(),
            prototype: Vec::new(),
            centralised: Vec::new(),
        };
        for (owner, samples) in identities.into_iter().enumerate() {
            let rows: Vec<&[f32]> = samples.iter().map(|sample| &*set.embeddings[*sample]).collect();
            let qualities: Vec<f32> = samples.iter().map(|sample| set.qualities[*sample]).collect();
            gallery.plain.extend(ranking::normalised_weights(&rows, &vec![1.0; rows.len()]));
            gallery.prototype.extend(ranking::template_weights(Pooling::Prototype, &rows, &qualities));
            gallery.centralised.extend(ranking::template_weights(Pooling::Centralised, &rows, &qualities));
            let first = gallery.samples.len();
            gallery.identities.push((first..first + samples.len()).collect());
            gallery.owners.extend(samples.iter().map(|_| owner));
            gallery.samples.extend(samples);
        }
        gallery
    }

    /// Searches with a sample of known identity. On ties, wrong identities come first, so that enrollment order gives
    /// no advantage.
    pub(super) fn search(&self, probe: usize, right: usize) -> [SearchOutcome; METHODS.len()] {
        let cosines: Vec<f32> = self.samples.iter().map(|sample| self.cosine(probe, *sample)).collect();
        let best = self.pooled(Pooling::Best, &cosines);
        let mut nearest: Vec<usize> = (0..self.identities.len()).collect();
        nearest.sort_by(|one, other| best[*other].total_cmp(&best[*one]).then((*one == right).cmp(&(*other == right))));
        let templates: Vec<Vec<usize>> =
            nearest.iter().take(ranking::SHORTLIST).map(|identity| self.identities[*identity].clone()).collect();
        let between = |one: usize, other: usize| self.cosine(self.samples[one], self.samples[other]);
        let shortlist = Shortlist::of(&templates, |template| cosines[template], between);
        let found = TemplateSearch { nearest: &nearest, right, cosines: &cosines };
        METHODS.map(|(way, _)| match way {
            RankingMethod::Pooled(pooling) => self.by_similarity(&self.pooled(pooling, &cosines), right, {
                self.ranks_templates(pooling, &cosines).and_then(|scores| self.precision(&scores, right))
            }),
            RankingMethod::PlainMean => self.by_similarity(&self.plain_mean(&cosines), right, None),
            RankingMethod::Reranked(by) => self.reranked(&shortlist, by, &found),
        })
    }

    fn by_similarity(&self, similarities: &[f32], right: usize, precision: Option<f64>) -> SearchOutcome {
        let own = similarities[right];
        let rank = similarities.iter().filter(|similarity| **similarity >= own).count();
        debug_assert_eq!(similarities.len(), self.identities.len(), "one for each");
        SearchOutcome { rank, precision, is_reranked: false }
    }

    fn reranked(&self, shortlist: &Shortlist, by: Reranking, search: &TemplateSearch<'_>) -> SearchOutcome {
        let TemplateSearch { nearest, right, cosines } = *search;
        let (order, ranking) = shortlist.order(by, nearest.len());
        let place = order.iter().position(|place| nearest[*place] == right).expect("every identity is in the list");
        let mut scores: Vec<f64> = cosines.iter().copied().map(f64::from).collect();
        if let Some((its, _)) = shortlist.scores(by) {
            shortlist.templates().iter().zip(its).for_each(|(template, score)| scores[*template] = AHEAD + score);
        }
        let precision = self.precision(&scores, right);
        SearchOutcome { rank: place + 1, precision, is_reranked: ranking != Ranking::Similarity }
    }

    /// The similarity of each identity.
    fn pooled(&self, pooling: Pooling, cosines: &[f32]) -> Vec<f32> {
        let one = |its: &Vec<usize>| {
            let said = its.iter().map(|template| self.said(pooling, *template, cosines));
            Accumulators::single(pooling, said).expect("every identity has a template")
        };
        self.identities.iter().map(one).collect()
    }

    fn said(&self, pooling: Pooling, template: usize, cosines: &[f32]) -> TemplateSimilarity {
        let weight = match pooling {
            Pooling::Prototype => self.prototype[template],
            Pooling::Centralised => self.centralised[template],
            Pooling::Best | Pooling::MeanOfBest(_) | Pooling::ByQuality => 1.0,
        };
        TemplateSimilarity {
            similarity: cosines[template],
            quality: self.set.qualities[self.samples[template]],
            weight,
        }
    }

    fn plain_mean(&self, cosines: &[f32]) -> Vec<f32> {
        let one = |its: &Vec<usize>| its.iter().map(|template| self.plain[*template] * cosines[*template]).sum();
        self.identities.iter().map(one).collect()
    }

    /// A score per template, for poolings that rank templates.
    fn ranks_templates(&self, pooling: Pooling, cosines: &[f32]) -> Option<Vec<f64>> {
        match pooling {
            Pooling::Best => Some(cosines.iter().copied().map(f64::from).collect()),
            Pooling::Centralised => {
                let mut accumulators = Accumulators::new(pooling, self.identities.len());
                let each = || {
                    (0..cosines.len()).map(|template| (self.owners[template], self.said(pooling, template, cosines)))
                };
                each().for_each(|(owner, said)| accumulators.add(owner, said));
                Some(each().map(|(owner, said)| accumulators.add_second_pass(owner, said).into()).collect())
            }
            Pooling::MeanOfBest(_) | Pooling::ByQuality | Pooling::Prototype => None,
        }
    }

    /// Average precision over templates, if all templates of an identity are its own.
    fn precision(&self, scores: &[f64], right: usize) -> Option<f64> {
        if self.enrolled == EnrolledSamples::Swapped {
            return None;
        }
        let mut own: Vec<f64> = self.identities[right].iter().map(|template| scores[*template]).collect();
        own.sort_by(|one, other| other.total_cmp(one));
        let ranks = own.iter().zip(1..).map(|(own, place)| {
            let wrong = scores.iter().zip(&self.owners).filter(|(score, owner)| **owner != right && **score >= *own);
            place + wrong.count()
        });
        RankingOutcome::at(&ranks.collect::<Vec<usize>>()).map(|outcome| outcome.average_precision)
    }

    fn cosine(&self, one: usize, other: usize) -> f32 {
        // Eight lanes, which the compiler vectorises.
        let (one, other) = (&self.set.embeddings[one], &self.set.embeddings[other]);
        let ((ones, one_rest), (others, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
        let mut lanes = [0.0_f32; 8];
        for (a, b) in ones.iter().zip(others) {
            for lane in 0..8 {
                lanes[lane] += a[lane] * b[lane];
            }
        }
        lanes.iter().sum::<f32>() + one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum::<f32>()
    }
}
