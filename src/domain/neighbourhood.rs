//! What a gallery says of a probe besides who is nearest: how near strangers and acquaintances are to each other here.

/// The most templates of the cohort, which stands for the whole gallery: a template's place among strangers is known well
/// enough by then, and an enrollment costs the same in a gallery of any size.
pub const COHORT_MAX: usize = 1024;

/// Mean and standard deviation of some cosines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub mean: f32,
    pub deviation: f32,
}

/// How near a template's own identity is to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own {
    /// Its cosine to the nearest other template of its identity.
    pub nearest: f32,
    /// The mean of its cosines to the other templates of its identity.
    pub mean: f32,
}

/// What the gallery knows of one template that is near the probe. But for `cosine` and `centroid`, it is known before any
/// probe comes. The cohort is a part of the gallery that stands for all of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Whose template it is: a number that says no more than which neighbours belong together.
    pub identity: u64,
    /// How many templates that identity has, this one included.
    pub identity_templates: u32,
    /// Of the probe and this template.
    pub cosine: f32,
    /// Of the probe and the direction between all templates of the identity.
    pub centroid: f32,
    /// The highest cosine of this template and one of another identity in the cohort; none in a gallery of one identity.
    pub nearest_impostor: Option<f32>,
    /// None for an identity's only template.
    pub own: Option<Own>,
    /// Of this template's cosines to templates of other identities in the cohort (what Z-norm goes by); none in a gallery of
    /// one identity.
    pub others: Option<Spread>,
}

/// What is known of the gallery as a whole and of how the probe stands to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surroundings {
    pub templates: u64,
    pub identities: u64,
    /// Of the cosines between templates of different identities of the cohort; none in a gallery of one identity.
    pub impostor: Option<Spread>,
    /// Of the cosines between templates of one identity; none where each identity has a single template.
    pub genuine: Option<Spread>,
    /// The median, the 90 % quantile and the highest of the cohort's [`Neighbour::nearest_impostor`]; none in a gallery of
    /// one identity.
    pub nearest_impostors: Option<[f32; 3]>,
    /// Of the probe's cosines to the templates of the cohort.
    pub probe: Spread,
}
