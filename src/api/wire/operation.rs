//! Operations and their findings in responses.

use std::collections::BTreeMap;

use super::{
    CalibrationName, CollectionName, ModelName, OperationName,
    answer::{reasons, source},
    count, identity_in, to_wire,
};
use crate::{
    api::{
        proto::{self, clusters_result, duplicates_result, operation::Result as Ended},
        status::operation_code,
    },
    matcher::{Fault, FoundPair, OperationView},
};
use domain::{
    CollectionId, Operation, OperationKind, OperationOutcome, OperationState, OperationSummary, SurveyFinding,
    TemplateOwner,
};

/// A pair that an operation found, by the names of its two identities.
pub(in crate::api) fn found_pair(name: &str, identities: &[String]) -> Result<(CollectionId, FoundPair), Fault> {
    let OperationName { collection, operation } = OperationName::parse("name", name)?;
    let [one, other] = identities else {
        return Err(Fault::invalid("identities", "name the two identities of the pair"));
    };
    let identities =
        [identity_in(&collection, "identities[0]", one)?, identity_in(&collection, "identities[1]", other)?];
    Ok((collection, FoundPair { operation, identities }))
}

/// Without findings.
pub(in crate::api) fn operation(of: &CollectionId, operation: &Operation) -> proto::Operation {
    proto::Operation {
        name: OperationName { collection: of.clone(), operation: operation.id }.to_string(),
        kind: match operation.kind {
            OperationKind::FindDuplicates => proto::operation::Kind::FindDuplicates,
            OperationKind::ClusterTemplates => proto::operation::Kind::ClusterTemplates,
        }
        .into(),
        done: matches!(operation.state, OperationState::Ended(_)),
        progress: Some(proto::operation::Progress {
            done: count(operation.progress.done),
            total: count(operation.progress.total),
        }),
        cancel_requested: matches!(operation.state, OperationState::Running { cancelled: true }),
        result: match &operation.state {
            OperationState::Running { .. } => None,
            OperationState::Ended(OperationOutcome::Failed { failure, message }) => {
                let (code, reason) = operation_code(*failure);
                Some(Ended::Error(proto::OperationError { code, reason, message: message.clone() }))
            }
            OperationState::Ended(OperationOutcome::Succeeded(summary)) => Some(match operation.kind {
                OperationKind::FindDuplicates => Ended::Duplicates(duplicates(of, summary, &[])),
                OperationKind::ClusterTemplates => Ended::Clusters(clusters(of, summary, &[])),
            }),
        },
        create_time: Some(to_wire(operation.create_time)),
        update_time: Some(to_wire(operation.update_time)),
        expire_time: Some(to_wire(operation.expire_time)),
    }
}

/// With findings.
pub(in crate::api) fn shown_operation(of: &CollectionId, shown: &OperationView) -> proto::Operation {
    let mut wire = operation(of, &shown.operation);
    if let OperationState::Ended(OperationOutcome::Succeeded(summary)) = &shown.operation.state {
        wire.result = Some(match shown.operation.kind {
            OperationKind::FindDuplicates => Ended::Duplicates(duplicates(of, summary, &shown.findings)),
            OperationKind::ClusterTemplates => Ended::Clusters(clusters(of, summary, &shown.findings)),
        });
    }
    wire
}

fn survey(of: &CollectionId, summary: &OperationSummary) -> proto::SurveySummary {
    let name = |calibration| CalibrationName { collection: of.clone(), calibration }.to_string();
    proto::SurveySummary {
        model: ModelName(summary.model.clone()).to_string(),
        identity_count: count(summary.identities),
        template_count: count(summary.templates),
        level: summary.level.0,
        expected_false_pairs: summary.false_pairs,
        reasons: reasons(&summary.reasons),
        source: source(summary.source),
        calibration: summary.calibration.map_or_else(String::new, name),
    }
}

/// The resource names of an identity and its template.
fn names(of: &CollectionId, owned: &TemplateOwner) -> (String, String) {
    let identity = CollectionName(of.clone()).identity(&owned.identity);
    (identity.to_string(), identity.template(owned.template).to_string())
}

fn duplicates(
    of: &CollectionId,
    summary: &OperationSummary,
    findings: &[SurveyFinding<TemplateOwner>],
) -> proto::DuplicatesResult {
    let pair = |finding: &SurveyFinding<TemplateOwner>| match finding {
        SurveyFinding::Pair { templates, similarity, llr, same_image, dismissed } => {
            use duplicates_result::pair::State;
            let state = match templates {
                [one, other] if one.identity == other.identity => State::Applied,
                _ if *dismissed => State::Dismissed,
                _ => State::Open,
            };
            let mut named = templates.each_ref().map(|owned| names(of, owned));
            named.sort_unstable();
            let (identities, templates) = named.into_iter().unzip();
            Some(duplicates_result::Pair {
                identities,
                templates,
                similarity: similarity.0,
                log_likelihood_ratio: *llr,
                same_image: *same_image,
                state: state.into(),
            })
        }
        SurveyFinding::Member { .. } => None,
    };
    proto::DuplicatesResult { survey: Some(survey(of, summary)), pairs: findings.iter().filter_map(pair).collect() }
}

/// Mixed clusters and split identities count only members that still exist.
fn clusters(
    of: &CollectionId,
    summary: &OperationSummary,
    findings: &[SurveyFinding<TemplateOwner>],
) -> proto::ClustersResult {
    let mut clusters: BTreeMap<i32, Vec<clusters_result::Member>> = BTreeMap::new();
    let mut clusters_of: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for finding in findings {
        if let SurveyFinding::Member { group, template } = finding {
            let number = i32::try_from(*group).unwrap_or(i32::MAX);
            let (identity, template) = names(of, template);
            clusters.entry(number).or_default().push(clusters_result::Member { template, identity: identity.clone() });
            let numbers = clusters_of.entry(identity).or_default();
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        }
    }
    let is_mixed = |members: &[clusters_result::Member]| members.iter().any(|m| m.identity != members[0].identity);
    let mixed = clusters.iter().filter(|(_, members)| is_mixed(members)).map(|(number, _)| *number).collect();
    let split = clusters_of.into_iter().filter(|(_, numbers)| numbers.len() > 1);
    proto::ClustersResult {
        survey: Some(survey(of, summary)),
        mixed_clusters: mixed,
        split_identities: split
            .map(|(identity, clusters)| clusters_result::SplitIdentity { identity, clusters })
            .collect(),
        alone_count: count(summary.alone),
        clusters: clusters.into_iter().map(|(number, members)| clusters_result::Cluster { number, members }).collect(),
    }
}
