//! The similarity of each identity, from those of its templates.
//!
//! Every way of pooling rises with every single similarity. So intervals may be pooled as similarities are: pooled lower ends
//! are at most the pooled similarity, pooled upper ends at least.

use super::counts_by_share;
use domain::Pooling;

/// What one template says of a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    pub similarity: f32,
    /// 0 to 1; NaN where nothing is known.
    pub quality: f32,
    /// See [`super::shares`].
    pub share: f32,
}

/// The pooled similarity of each identity, template by template. Identities have numbers below a count.
#[derive(Debug)]
pub struct Pools {
    pooling: Pooling,
    /// `width` numbers for each identity: of the mean of the best so many of the highest, in falling order; else a sum, what
    /// to divide it by, and for centralised templates the highest so far.
    values: Vec<f64>,
    width: usize,
}

impl Pools {
    #[must_use]
    pub fn new(pooling: Pooling, identities: usize) -> Self {
        let nothing = match pooling {
            Pooling::Best => vec![f64::NEG_INFINITY],
            Pooling::MeanOfBest(most) => vec![f64::NEG_INFINITY; most.get() as usize],
            Pooling::ByQuality | Pooling::Prototype => vec![0.0, 0.0],
            Pooling::Centralised => vec![0.0, 0.0, f64::NEG_INFINITY],
        };
        Self { pooling, values: nothing.repeat(identities), width: nothing.len() }
    }

    /// The similarity of one identity, from all that its templates say. `None` where there are none.
    #[must_use]
    pub fn one(pooling: Pooling, said: impl Iterator<Item = Said> + Clone) -> Option<f32> {
        let mut pools = Self::new(pooling, 1);
        for said in said.clone() {
            pools.add(0, said);
        }
        if Self::has_two_rounds(pooling) {
            for said in said {
                pools.compare(0, said);
            }
        }
        pools.of(0)
    }

    /// Whether every template is to be told twice: first all to [`Pools::add`], then all to [`Pools::compare`].
    #[must_use]
    pub fn has_two_rounds(pooling: Pooling) -> bool {
        pooling == Pooling::Centralised
    }

    /// Hears one template of an identity.
    pub fn add(&mut self, identity: usize, said: Said) {
        let kept = &mut self.values[identity * self.width..][..self.width];
        let similarity = f64::from(said.similarity);
        match self.pooling {
            Pooling::Best | Pooling::MeanOfBest(_) => {
                let mut moving = similarity;
                for place in kept {
                    if moving > *place {
                        std::mem::swap(place, &mut moving);
                    }
                }
            }
            Pooling::ByQuality => {
                let weight = Pooling::weight((!said.quality.is_nan()).then_some(said.quality));
                kept[0] += weight * similarity;
                kept[1] += weight;
            }
            Pooling::Prototype => {
                kept[0] += f64::from(said.share) * similarity;
                kept[1] += 1.0;
            }
            Pooling::Centralised => {
                kept[0] += similarity;
                kept[1] += 1.0;
            }
        }
    }

    /// The second round; does nothing where there is none. Answers how similar the template is after it has moved.
    pub fn compare(&mut self, identity: usize, said: Said) -> f32 {
        if !Self::has_two_rounds(self.pooling) {
            return said.similarity;
        }
        let kept = &mut self.values[identity * self.width..][..self.width];
        let (own, share) = (f64::from(said.similarity), f64::from(said.share));
        let others = kept[1] - 1.0;
        // The cosine with f_i + mean of the others, from the sum over all: own (1 - 1/others) + sum/others. Neither factor is
        // negative, so it rises with each.
        let moved =
            if others < 0.5 || share == 0.0 { own } else { share * (own * (1.0 - 1.0 / others) + kept[0] / others) };
        kept[2] = kept[2].max(moved);
        within(moved)
    }

    /// `None` where nothing was heard.
    #[must_use]
    pub fn of(&self, identity: usize) -> Option<f32> {
        let kept = &self.values[identity * self.width..][..self.width];
        let (sum, weight) = match self.pooling {
            Pooling::Best | Pooling::MeanOfBest(_) => {
                let there = kept.iter().take_while(|value| value.is_finite());
                there.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0))
            }
            Pooling::ByQuality => (kept[0], kept[1]),
            Pooling::Prototype => (kept[0], kept[1].min(1.0)),
            Pooling::Centralised => (kept[2], kept[1].min(1.0)),
        };
        debug_assert!(weight == 0.0 || sum.is_finite(), "a second round must follow the first");
        (weight > 0.0).then(|| if counts_by_share(self.pooling) { within(sum) } else { single(sum / weight) })
    }
}

/// Rounding may carry a cosine past 1, and the ends of intervals go further.
fn within(cosine: f64) -> f32 {
    single(cosine.clamp(-1.0, 1.0))
}

#[expect(clippy::cast_possible_truncation, reason = "similarities are single precision")]
fn single(number: f64) -> f32 {
    number as f32
}
