//! The catalogue: public weights that `semblance models pull` knows how to make packages of.
//!
//! It is part of the program. It names weights of others and holds none.

use serde::Deserialize;

use super::package::{Manifest, PackageError};
use crate::domain::SpaceName;

const TEXT: &str = include_str!("../../models/catalogue.toml");

/// Everything that can be pulled by name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pub(super) recipes: Vec<Recipe>,
}

/// How to make one package of a published file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// A new server gets it by itself.
    #[serde(default)]
    pub starter: bool,
    /// Where the file of the weights is, at a commit that does not move.
    pub url: String,
    /// How long that file is.
    pub bytes: u64,
    /// The package's manifest, with the published file as its weights. Packages are written with safetensors instead.
    pub manifest: Manifest,
}

impl Catalogue {
    /// The catalogue of this program.
    #[must_use]
    pub fn built_in() -> Self {
        Self::parse(TEXT).expect("a test parses the catalogue that is built in")
    }

    /// # Errors
    /// When a manifest in it makes no sense.
    pub fn parse(text: &str) -> Result<Self, PackageError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            package: Vec<Recipe>,
        }
        let written: Written = toml::from_str(text)?;
        let check = |recipe: Recipe| Ok(Recipe { manifest: recipe.manifest.checked()?, ..recipe });
        Ok(Self { recipes: written.package.into_iter().map(check).collect::<Result<_, PackageError>>()? })
    }

    /// All recipes, in the catalogue's order.
    #[must_use]
    pub fn recipes(&self) -> &[Recipe] {
        &self.recipes
    }

    /// Those that a new server gets by itself.
    pub fn starters(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.iter().filter(|recipe| recipe.starter)
    }

    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Recipe> {
        self.recipes.iter().find(|recipe| recipe.manifest.id.as_str() == name)
    }

    /// The names that can be pulled.
    pub fn names(&self) -> impl Iterator<Item = &SpaceName> {
        self.recipes.iter().map(|recipe| &recipe.manifest.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_sound() {
        let catalogue = Catalogue::parse(TEXT).expect("the committed catalogue");
        let starters: Vec<&str> = catalogue.starters().map(|recipe| recipe.manifest.id.as_str()).collect();
        assert_eq!(starters, ["face-mobilefacenet", "person-osnet-x0-25", "gait-graph"]);
        for recipe in catalogue.recipes() {
            let commit =
                recipe.url.strip_prefix("https://raw.githubusercontent.com/").and_then(|path| path.split('/').nth(2));
            assert!(commit.is_some_and(|commit| commit.len() == 40), "{} is not pinned to a commit", recipe.url);
        }
        let mut names: Vec<&SpaceName> = catalogue.names().collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), catalogue.recipes().len());
    }

    #[test]
    fn a_recipe_that_makes_no_sense_is_refused() {
        let text = TEXT.replacen("dimension = 128", "dimension = 127", 1);
        assert!(matches!(Catalogue::parse(&text), Err(PackageError::WrongDimension { .. })));
        let text = TEXT.replacen("starter = true", "starter = true\nsurprise = 1", 1);
        assert!(matches!(Catalogue::parse(&text), Err(PackageError::Manifest(_))));
    }
}
