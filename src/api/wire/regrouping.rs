//! Merges, splits and reverts: requests, and regroupings in responses.

use super::{CollectionName, IdentityName, RegroupingName, TemplateName, identity, labels, to_wire};
use crate::{
    api::proto,
    matcher::{Fault, MergeDraft, MergedLabels, Regrouped, RegroupingSummary, RevertDraft, RevertExtent, SplitDraft},
};
use domain::{CollectionId, IdentityId, RegroupingKind};

/// The id of an identity that must be of this collection.
pub(in crate::api) fn identity_in(collection: &CollectionId, field: &str, name: &str) -> Result<IdentityId, Fault> {
    let name = IdentityName::parse(field, name)?;
    if name.collection == *collection {
        return Ok(name.identity);
    }
    let problem = format!("{name} is of another collection; templates stay in their collection");
    Err(Fault::invalid(field, problem))
}

pub(in crate::api) fn merge(request: &proto::MergeIdentitiesRequest) -> Result<(CollectionId, MergeDraft), Fault> {
    use proto::merge_identities_request::Labels;
    let CollectionName(collection) = CollectionName::parse("parent", &request.parent)?;
    let sources = request.sources.iter().enumerate();
    let draft = MergeDraft {
        target: identity_in(&collection, "target", &request.target)?,
        sources: sources
            .map(|(at, name)| identity_in(&collection, &format!("sources[{at}]"), name))
            .collect::<Result<_, _>>()?,
        labels: match Labels::try_from(request.labels) {
            Ok(Labels::Unspecified | Labels::Fill) => MergedLabels::Fill,
            Ok(Labels::Keep) => MergedLabels::Keep,
            Err(_) => return Err(Fault::invalid("labels", "labels is fill or keep")),
        },
    };
    Ok((collection, draft))
}

pub(in crate::api) fn split(request: proto::SplitIdentityRequest) -> Result<(CollectionId, SplitDraft), Fault> {
    let name = IdentityName::parse("name", &request.name)?;
    let templates = request.templates.iter().enumerate().map(|(at, text)| {
        let field = format!("templates[{at}]");
        let TemplateName { identity, template } = TemplateName::parse(&field, text)?;
        if identity == name {
            return Ok(template);
        }
        Err(Fault::invalid(field, format!("{text} is no template of {name}")))
    });
    let draft = SplitDraft {
        templates: templates.collect::<Result<_, _>>()?,
        made: match request.identity_id.as_str() {
            "" => None,
            id => Some(IdentityId::new(id).map_err(|e| Fault::invalid("identityId", e))?),
        },
        labels: labels(request.labels)?,
        identity: name.identity,
    };
    Ok((name.collection, draft))
}

pub(in crate::api) fn revert(request: &proto::RevertIdentityRequest) -> Result<(CollectionId, RevertDraft), Fault> {
    let name = IdentityName::parse("name", &request.name)?;
    let regrouping = match request.regrouping.as_str() {
        "" => None,
        text => {
            let named = RegroupingName::parse("regrouping", text)?;
            if named.collection != name.collection {
                return Err(Fault::invalid("regrouping", format!("{text} is of another collection")));
            }
            Some(named.regrouping)
        }
    };
    let extent = if request.partial { RevertExtent::Possible } else { RevertExtent::Whole };
    Ok((name.collection, RevertDraft { identity: name.identity, regrouping, extent }))
}

pub(in crate::api) fn merged(of: &CollectionId, merged: &Regrouped) -> proto::MergeIdentitiesResponse {
    proto::MergeIdentitiesResponse {
        regrouping: Some(regrouping(of, &merged.regrouping)),
        identity: merged.identities.first().map(|target| identity(of, target)),
        consistency_token: merged.token.to_string(),
    }
}

pub(in crate::api) fn regrouping(of: &CollectionId, summary: &RegroupingSummary) -> proto::Regrouping {
    let name = |id: &IdentityId| CollectionName(of.clone()).identity(id);
    proto::Regrouping {
        name: RegroupingName { collection: of.clone(), regrouping: summary.id }.to_string(),
        kind: match summary.kind {
            RegroupingKind::Merge => proto::regrouping::Kind::Merge,
            RegroupingKind::Split => proto::regrouping::Kind::Split,
        }
        .into(),
        identity: name(&summary.identity).to_string(),
        others: summary.others.iter().map(|id| name(id).to_string()).collect(),
        templates: summary
            .templates
            .iter()
            .map(|owned| name(&owned.identity).template(owned.template).to_string())
            .collect(),
        create_time: Some(to_wire(summary.time)),
        revert_time: summary.revert_time.map(to_wire),
    }
}
