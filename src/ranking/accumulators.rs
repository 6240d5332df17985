//! Pooling: the similarity of each identity from the similarities of its templates.
//!
//! Every pooling is monotone: it never falls when one template's similarity rises. Intervals can therefore be pooled
//! like similarities: pooled lower ends are at most the pooled similarity, pooled upper ends at least.

use super::uses_template_weights;
use domain::Pooling;

/// One template's input to pooling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TemplateSimilarity {
    pub similarity: f32,
    /// Sample quality, 0 to 1; NaN when unknown.
    pub quality: f32,
    /// See [`super::template_weights`]; 1 for poolings without weights.
    pub weight: f32,
}

/// Pooled similarities of identities 0 to n - 1, accumulated template by template.
#[derive(Debug)]
pub struct Accumulators {
    pooling: Pooling,
    /// `width` values per identity. Best: the maximum. MeanOfBest(k): the k highest similarities, descending.
    /// ByQuality: weighted sum and sum of weights. Prototype: weighted sum and count. Centralised: sum, count, and
    /// maximum of the second pass.
    values: Vec<f64>,
    width: usize,
}

impl Accumulators {
    #[must_use]
    pub fn new(pooling: Pooling, identities: usize) -> Self {
        let empty = match pooling {
            Pooling::Best => vec![f64::NEG_INFINITY],
            Pooling::MeanOfBest(most) => vec![f64::NEG_INFINITY; most.get() as usize],
            Pooling::ByQuality | Pooling::Prototype => vec![0.0, 0.0],
            Pooling::Centralised => vec![0.0, 0.0, f64::NEG_INFINITY],
        };
        Self { pooling, values: empty.repeat(identities), width: empty.len() }
    }

    /// Pooled similarity of a single identity; `None` without templates.
    #[must_use]
    pub fn single(pooling: Pooling, templates: impl Iterator<Item = TemplateSimilarity> + Clone) -> Option<f32> {
        let mut accumulators = Self::new(pooling, 1);
        for template in templates.clone() {
            accumulators.add(0, template);
        }
        if Self::needs_second_pass(pooling) {
            for template in templates {
                accumulators.add_second_pass(0, template);
            }
        }
        accumulators.similarity(0)
    }

    /// Whether the pooling needs two passes over the templates: first all to [`Accumulators::add`], then all to
    /// [`Accumulators::add_second_pass`].
    #[must_use]
    pub fn needs_second_pass(pooling: Pooling) -> bool {
        pooling == Pooling::Centralised
    }

    /// Adds one template of an identity.
    pub fn add(&mut self, identity: usize, template: TemplateSimilarity) {
        let values = &mut self.values[identity * self.width..][..self.width];
        let similarity = f64::from(template.similarity);
        match self.pooling {
            Pooling::Best | Pooling::MeanOfBest(_) => {
                let mut moving = similarity;
                for value in values {
                    if moving > *value {
                        std::mem::swap(value, &mut moving);
                    }
                }
            }
            Pooling::ByQuality => {
                let weight = Pooling::weight((!template.quality.is_nan()).then_some(template.quality));
                values[0] += weight * similarity;
                values[1] += weight;
            }
            Pooling::Prototype => {
                values[0] += f64::from(template.weight) * similarity;
                values[1] += 1.0;
            }
            Pooling::Centralised => {
                values[0] += similarity;
                values[1] += 1.0;
            }
        }
    }

    /// Second pass over the templates; does nothing for other poolings. Returns the cosine of the probe with the
    /// centralised template.
    pub fn add_second_pass(&mut self, identity: usize, template: TemplateSimilarity) -> f32 {
        if !Self::needs_second_pass(self.pooling) {
            return template.similarity;
        }
        let values = &mut self.values[identity * self.width..][..self.width];
        let (own, own_weight) = (f64::from(template.similarity), f64::from(template.weight));
        let others = values[1] - 1.0;
        // Cosine with f_i + mean of the others, from the sum over all templates: own (1 - 1/others) + sum/others, times
        // the weight. Neither factor is negative, so it is monotone in both.
        let moved = if others < 0.5 || own_weight == 0.0 {
            own
        } else {
            own_weight * (own * (1.0 - 1.0 / others) + values[0] / others)
        };
        values[2] = values[2].max(moved);
        clamped(moved)
    }

    /// Pooled similarity of an identity; `None` without templates.
    #[must_use]
    pub fn similarity(&self, identity: usize) -> Option<f32> {
        let values = &self.values[identity * self.width..][..self.width];
        let (sum, weight) = match self.pooling {
            Pooling::Best | Pooling::MeanOfBest(_) => {
                let known = values.iter().take_while(|value| value.is_finite());
                known.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0))
            }
            Pooling::ByQuality => (values[0], values[1]),
            Pooling::Prototype => (values[0], values[1].min(1.0)),
            Pooling::Centralised => (values[2], values[1].min(1.0)),
        };
        debug_assert!(weight == 0.0 || sum.is_finite(), "the second pass must follow the first");
        (weight > 0.0).then(|| if uses_template_weights(self.pooling) { clamped(sum) } else { to_f32(sum / weight) })
    }
}

/// Rounding may carry a cosine past 1, and interval ends may lie further out.
fn clamped(cosine: f64) -> f32 {
    to_f32(cosine.clamp(-1.0, 1.0))
}

#[expect(clippy::cast_possible_truncation, reason = "similarities are single precision")]
fn to_f32(number: f64) -> f32 {
    number as f32
}
