//! The catalogue: public weights that `semblance models pull` turns into packages.
//!
//! It is compiled into the program. It lists third-party weights by address and holds none of them; our own weights are
//! compiled in.

use serde::Deserialize;

use super::package::{Manifest, PackageError};
use domain::SpaceName;

const TEXT: &str = include_str!("../../models/catalogue.toml");

/// Packages that are compiled into the program, manifest and weights: they need no network, and a new server installs
/// them at first start.
const SHIPPED: [BundledPackage; 1] = [BundledPackage {
    manifest: include_str!("../../models/gait-walker/model.toml"),
    weights: include_bytes!("../../models/gait-walker/weights.safetensors"),
}];

/// All packages that can be pulled by name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pub(super) entries: Vec<CatalogueEntry>,
}

/// One package of the catalogue and the source of its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogueEntry {
    /// Whether a new server installs it at first start.
    pub starter: bool,
    pub origin: WeightsOrigin,
    /// The manifest, with the files as published. Installed packages have one safetensors file instead.
    pub manifest: Manifest,
}

/// The source of the weight files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsOrigin {
    /// Downloads, each pinned to a commit, in the manifest's order.
    Published(Vec<PublishedFile>),
    /// One file, compiled into the program.
    Bundled(&'static [u8]),
}

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedFile {
    pub url: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A package that is compiled into the program, from its folder in `models/`.
#[derive(Debug, Clone, Copy)]
pub struct BundledPackage {
    pub manifest: &'static str,
    pub weights: &'static [u8],
}

impl Catalogue {
    /// The catalogue of this version.
    #[must_use]
    pub fn built_in() -> Self {
        Self::parse(TEXT, &SHIPPED).expect("a test parses the catalogue that is built in")
    }

    /// # Errors
    /// When a manifest is invalid.
    pub fn parse(text: &str, shipped: &[BundledPackage]) -> Result<Self, PackageError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct CatalogueText {
            package: Vec<CatalogueRow>,
        }
        let written: CatalogueText = toml::from_str(text)?;
        let published = written.package.into_iter().map(CatalogueRow::entry);
        let shipped = shipped.iter().map(BundledPackage::entry);
        Ok(Self { entries: published.chain(shipped).collect::<Result<_, _>>()? })
    }

    /// All recipes, in the catalogue's order.
    #[must_use]
    pub fn entries(&self) -> &[CatalogueEntry] {
        &self.entries
    }

    /// The packages that a new server installs at first start.
    pub fn starters(&self) -> impl Iterator<Item = &CatalogueEntry> {
        self.entries.iter().filter(|entry| entry.starter)
    }

    #[must_use]
    pub fn named(&self, name: &str) -> Option<&CatalogueEntry> {
        self.entries.iter().find(|entry| entry.manifest.id.as_str() == name)
    }

    /// The names of all packages.
    pub fn names(&self) -> impl Iterator<Item = &SpaceName> {
        self.entries.iter().map(|entry| &entry.manifest.id)
    }
}

/// A package as written in the catalogue's text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueRow {
    #[serde(default)]
    starter: bool,
    files: Vec<PublishedFile>,
    manifest: Manifest,
}

impl CatalogueRow {
    fn entry(self) -> Result<CatalogueEntry, PackageError> {
        let origin = WeightsOrigin::Published(self.files);
        CatalogueEntry { starter: self.starter, origin, manifest: self.manifest.checked()? }.checked()
    }
}

impl BundledPackage {
    fn entry(&self) -> Result<CatalogueEntry, PackageError> {
        let manifest = Manifest::parse(self.manifest.as_bytes())?;
        CatalogueEntry { starter: true, origin: WeightsOrigin::Bundled(self.weights), manifest }.checked()
    }
}

impl CatalogueEntry {
    fn checked(self) -> Result<Self, PackageError> {
        if self.manifest.is_program() {
            return Err(PackageError::ProgramInCatalogue(self.manifest.id));
        }
        let (files, addresses) = (self.manifest.weights.len(), self.origin.files());
        if files == addresses {
            Ok(self)
        } else {
            Err(PackageError::WrongAddresses { id: self.manifest.id, files, addresses })
        }
    }
}

impl WeightsOrigin {
    /// The total length of all files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Published(files) => files.iter().map(|file| file.bytes).sum(),
            Self::Bundled(bytes) => bytes.len() as u64,
        }
    }

    fn files(&self) -> usize {
        match self {
            Self::Published(files) => files.len(),
            Self::Bundled(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_sound() {
        let catalogue = Catalogue::parse(TEXT, &SHIPPED).expect("the committed catalogue");
        let starters: Vec<&str> = catalogue.starters().map(|entry| entry.manifest.id.as_str()).collect();
        assert_eq!(
            starters,
            ["face-mobilefacenet", "person-osnet-x0-25", "face-mtcnn", "face-minifasnet", "gait-walker"]
        );
        let published = catalogue.entries().iter().filter_map(|entry| match &entry.origin {
            WeightsOrigin::Published(files) => Some(files),
            WeightsOrigin::Bundled(_) => None,
        });
        for PublishedFile { url, .. } in published.flatten() {
            let commit = url.strip_prefix("https://raw.githubusercontent.com/").and_then(|path| path.split('/').nth(2));
            assert!(commit.is_some_and(|commit| commit.len() == 40), "{url} is not pinned to a commit");
        }
        let mut names: Vec<&SpaceName> = catalogue.names().collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), catalogue.entries().len());
    }

    #[test]
    fn an_invalid_entry_is_refused() {
        let parse = |from: &str, to: &str| Catalogue::parse(&TEXT.replacen(from, to, 1), &[]);
        assert!(matches!(parse("dimension = 128", "dimension = 127"), Err(PackageError::WrongDimension { .. })));
        assert!(matches!(parse("starter = true", "starter = true\nsurprise = 1"), Err(PackageError::Manifest(_))));
        let another = "[[package.files]]\nurl = \"https://example.org\"\nbytes = 1\n\n[package.manifest]";
        assert!(matches!(
            parse("[package.manifest]", another),
            Err(PackageError::WrongAddresses { files: 1, addresses: 2, .. })
        ));
    }
}
