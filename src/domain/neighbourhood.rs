//! Similarities around a probe: those of its nearest templates among themselves and to the rest of the gallery.

/// Maximum number of templates in the cohort, a sample of the gallery. It estimates impostor similarities well enough,
/// and an enrollment costs the same in a gallery of any size.
pub const COHORT_MAX: usize = 1024;

/// Mean and standard deviation of cosines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub mean: f32,
    pub deviation: f32,
}

/// The cosines of a template to the other templates of its identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnCosines {
    /// The highest cosine.
    pub nearest: f32,
    /// The mean cosine.
    pub mean: f32,
}

/// A template near the probe. All fields except `cosine` and `centroid` are independent of the probe. The cohort is a
/// sample of the gallery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// A number that is equal for neighbours of one identity, and has no other meaning.
    pub identity: u64,
    /// Number of templates of that identity, this one included.
    pub identity_templates: u32,
    /// Cosine of the probe and this template.
    pub cosine: f32,
    /// Cosine of the probe and the mean direction of the identity's templates.
    pub centroid: f32,
    /// The highest cosine of this template to a cohort template of another identity; `None` in a gallery of one
    /// identity.
    pub nearest_impostor: Option<f32>,
    /// `None` for the only template of an identity.
    pub own: Option<OwnCosines>,
    /// The cosines of this template to cohort templates of other identities (the statistics of Z-norm); `None` in a
    /// gallery of one identity.
    pub others: Option<Spread>,
}

/// Statistics of the gallery and of the probe's cosines to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GalleryStatistics {
    pub templates: u64,
    pub identities: u64,
    /// Cosines between cohort templates of different identities; `None` in a gallery of one identity.
    pub impostor: Option<Spread>,
    /// Cosines between templates of one identity; `None` if each identity has a single template.
    pub genuine: Option<Spread>,
    /// Median, 90 % quantile and maximum of [`Neighbour::nearest_impostor`] over the cohort; `None` in a gallery of one
    /// identity.
    pub nearest_impostors: Option<[f32; 3]>,
    /// Cosines of the probe to the cohort.
    pub probe: Spread,
}
