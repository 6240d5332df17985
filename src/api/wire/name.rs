//! Resource names: `collections/{c}/identities/{i}/templates/{t}`, `models/{m}`.

use std::fmt;

use crate::matcher::Fault;
use domain::{
    CalibrationId, CollectionId, DecisionId, IdentityId, OperationId, RegroupingId, ReviewCaseId, SpaceName, TemplateId,
};

/// The ids in a name. Each `*` of the pattern stands for an id.
fn split<const N: usize>(field: &str, name: &str, pattern: &str) -> Result<[String; N], Fault> {
    let wrong = || Fault::invalid(field, format!("{name:?} is not a name of the form {}", with_placeholders(pattern)));
    let (parts, forms): (Vec<&str>, Vec<&str>) = (name.split('/').collect(), pattern.split('/').collect());
    if parts.len() != forms.len() || parts.iter().zip(&forms).any(|(part, form)| *form != "*" && part != form) {
        return Err(wrong());
    }
    let ids: Vec<String> =
        parts.iter().zip(&forms).filter(|(_, form)| **form == "*").map(|(part, _)| (*part).to_owned()).collect();
    ids.try_into().map_err(|_| wrong())
}

fn with_placeholders(pattern: &str) -> String {
    pattern
        .replacen("collections/*", "collections/{collection}", 1)
        .replacen("identities/*", "identities/{identity}", 1)
        .replacen("templates/*", "templates/{template}", 1)
        .replacen("models/*", "models/{model}", 1)
        .replacen("calibrations/*", "calibrations/{calibration}", 1)
        .replacen("decisions/*", "decisions/{decision}", 1)
        .replacen("reviewCases/*", "reviewCases/{review_case}", 1)
        .replacen("regroupings/*", "regroupings/{regrouping}", 1)
        .replacen("operations/*", "operations/{operation}", 1)
}

fn in_field<T>(field: &str, id: Result<T, domain::IdError>) -> Result<T, Fault> {
    id.map_err(|problem| Fault::invalid(field, problem))
}

/// `collections/{c}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct CollectionName(pub CollectionId);

impl CollectionName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [collection] = split(field, name, "collections/*")?;
        Ok(Self(in_field(field, CollectionId::new(&collection))?))
    }

    pub(in crate::api) fn identity(&self, identity: &IdentityId) -> IdentityName {
        IdentityName { collection: self.0.clone(), identity: identity.clone() }
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collections/{}", self.0)
    }
}

/// `collections/{c}/identities/{i}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct IdentityName {
    pub collection: CollectionId,
    pub identity: IdentityId,
}

impl IdentityName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [collection, identity] = split(field, name, "collections/*/identities/*")?;
        Ok(Self {
            collection: in_field(field, CollectionId::new(&collection))?,
            identity: in_field(field, IdentityId::new(&identity))?,
        })
    }

    pub(in crate::api) fn template(&self, template: TemplateId) -> TemplateName {
        TemplateName { identity: self.clone(), template }
    }
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collections/{}/identities/{}", self.collection, self.identity)
    }
}

/// `collections/{c}/identities/{i}/templates/{t}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct TemplateName {
    pub identity: IdentityName,
    pub template: TemplateId,
}

impl TemplateName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [collection, identity, template] = split(field, name, "collections/*/identities/*/templates/*")?;
        let identity = IdentityName {
            collection: in_field(field, CollectionId::new(&collection))?,
            identity: in_field(field, IdentityId::new(&identity))?,
        };
        Ok(Self { identity, template: in_field(field, template.parse())? })
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/templates/{}", self.identity, self.template)
    }
}

/// `collections/{c}/calibrations/{k}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct CalibrationName {
    pub collection: CollectionId,
    pub calibration: CalibrationId,
}

impl CalibrationName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [collection, calibration] = split(field, name, "collections/*/calibrations/*")?;
        Ok(Self {
            collection: in_field(field, CollectionId::new(&collection))?,
            calibration: in_field(field, calibration.parse())?,
        })
    }
}

impl fmt::Display for CalibrationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collections/{}/calibrations/{}", self.collection, self.calibration)
    }
}

/// `collections/{c}/decisions/{d}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct DecisionName {
    pub collection: CollectionId,
    pub decision: DecisionId,
}

impl DecisionName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [collection, decision] = split(field, name, "collections/*/decisions/*")?;
        Ok(Self {
            collection: in_field(field, CollectionId::new(&collection))?,
            decision: in_field(field, decision.parse())?,
        })
    }
}

impl fmt::Display for DecisionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collections/{}/decisions/{}", self.collection, self.decision)
    }
}

/// `collections/{c}/reviewCases/{r}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct ReviewCaseName {
    pub collection: CollectionId,
    pub case: ReviewCaseId,
}

impl ReviewCaseName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [collection, case] = split(field, name, "collections/*/reviewCases/*")?;
        Ok(Self { collection: in_field(field, CollectionId::new(&collection))?, case: in_field(field, case.parse())? })
    }
}

impl fmt::Display for ReviewCaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collections/{}/reviewCases/{}", self.collection, self.case)
    }
}

/// `collections/{c}/operations/{o}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct OperationName {
    pub collection: CollectionId,
    pub operation: OperationId,
}

impl OperationName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [collection, operation] = split(field, name, "collections/*/operations/*")?;
        Ok(Self {
            collection: in_field(field, CollectionId::new(&collection))?,
            operation: in_field(field, operation.parse())?,
        })
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collections/{}/operations/{}", self.collection, self.operation)
    }
}

/// `collections/{c}/regroupings/{g}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct RegroupingName {
    pub collection: CollectionId,
    pub regrouping: RegroupingId,
}

impl RegroupingName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [collection, regrouping] = split(field, name, "collections/*/regroupings/*")?;
        Ok(Self {
            collection: in_field(field, CollectionId::new(&collection))?,
            regrouping: in_field(field, regrouping.parse())?,
        })
    }
}

impl fmt::Display for RegroupingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collections/{}/regroupings/{}", self.collection, self.regrouping)
    }
}

/// `models/{m}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct ModelName(pub SpaceName);

impl ModelName {
    pub(in crate::api) fn parse(field: &str, name: &str) -> Result<Self, Fault> {
        let [model] = split(field, name, "models/*")?;
        Ok(Self(in_field(field, SpaceName::new(&model))?))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "models/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_parsed_is_written_the_same() {
        let text = "collections/staff/identities/alice/templates/01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(TemplateName::parse("name", text).expect("valid").to_string(), text);
        for bad in
            ["", "collections", "collections/", "collections/a/b", "staff", "collections/a b", "collections/../x"]
        {
            assert!(CollectionName::parse("name", bad).is_err(), "{bad}");
            assert!(IdentityName::parse("name", bad).is_err(), "{bad}");
        }
    }
}
