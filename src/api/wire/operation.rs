//! Operations and their findings in responses.

use std::collections::BTreeMap;

use prost::Message;

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
        next_page_token: String::new(),
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

/// Bytes of the findings on one page. Clients of gRPC read 4 MiB by default; in JSON findings are a fifth larger.
const PAGE_BYTES_MAX: usize = 3 << 20;

/// A page of findings: how many come before it, and how many it has at most.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct FindingsPage {
    pub(in crate::api) skipped: usize,
    pub(in crate::api) limit: usize,
}

impl FindingsPage {
    /// Reduces the findings of an operation to those of the page. Returns how many come before the next page, if there
    /// is one.
    pub(in crate::api) fn cut(self, operation: &mut proto::Operation) -> Option<usize> {
        let mut rest = PageRest { skipped: self.skipped, taken: 0, limit: self.limit, bytes: 0, is_full: false };
        match &mut operation.result {
            Some(Ended::Duplicates(found)) => found.pairs.retain(|pair| rest.takes(pair)),
            Some(Ended::Clusters(found)) => {
                for cluster in &mut found.clusters {
                    cluster.members.retain(|member| rest.takes(member));
                }
                found.clusters.retain(|cluster| !cluster.members.is_empty());
                found.split_identities.retain(|split| rest.takes(split));
            }
            Some(Ended::Error(_)) | None => {}
        }
        rest.is_full.then_some(self.skipped + rest.taken)
    }
}

/// What a page still takes.
struct PageRest {
    skipped: usize,
    taken: usize,
    limit: usize,
    bytes: usize,
    /// A finding found no place.
    is_full: bool,
}

impl PageRest {
    fn takes(&mut self, finding: &impl Message) -> bool {
        if self.skipped > 0 {
            self.skipped -= 1;
            return false;
        }
        // The tag and the length of a repeated field take a few bytes each.
        let bytes = self.bytes + finding.encoded_len() + 8;
        self.is_full |= self.taken == self.limit || (bytes > PAGE_BYTES_MAX && self.taken > 0);
        if self.is_full {
            return false;
        }
        (self.bytes, self.taken) = (bytes, self.taken + 1);
        true
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: usize, name_bytes: usize) -> proto::Operation {
        let pair = |at: usize| duplicates_result::Pair {
            identities: vec![format!("{}{at}", "0".repeat(name_bytes)), "b".to_owned()],
            ..duplicates_result::Pair::default()
        };
        let result = proto::DuplicatesResult { survey: None, pairs: (0..pairs).map(pair).collect() };
        proto::Operation { result: Some(Ended::Duplicates(result)), ..proto::Operation::default() }
    }

    #[test]
    fn pages_of_findings_hold_each_once_and_stay_below_four_mebibytes() {
        for (pairs, name_bytes, limit) in
            [(20_000, 400, usize::MAX), (25, 8, 10), (10, 8, 10), (0, 8, 10), (3, 4 << 20, 9)]
        {
            let (mut named, mut skipped, mut pages) = (Vec::new(), Some(0), 0);
            while let Some(before) = skipped {
                let mut operation = found(pairs, name_bytes);
                skipped = FindingsPage { skipped: before, limit }.cut(&mut operation);
                let Some(Ended::Duplicates(page)) = &operation.result else { panic!("pairs") };
                assert!(page.pairs.len() <= limit && (operation.encoded_len() < 4 << 20 || page.pairs.len() == 1));
                named.extend(page.pairs.iter().map(|pair| pair.identities[0].parse::<usize>().expect("a number")));
                pages += 1;
            }
            assert_eq!(named, (0..pairs).collect::<Vec<_>>(), "in order, each once");
            assert_eq!(pages == 1, pairs <= limit && pairs * name_bytes < PAGE_BYTES_MAX, "{pages}");
        }
    }

    #[test]
    fn a_cluster_continues_on_the_next_page() {
        let member = |at: usize| clusters_result::Member { template: at.to_string(), ..Default::default() };
        let cluster = |number: i32, members: std::ops::Range<usize>| clusters_result::Cluster {
            number,
            members: members.map(member).collect(),
        };
        let split = clusters_result::SplitIdentity { identity: "x".to_owned(), clusters: vec![0, 1] };
        let whole = proto::ClustersResult {
            clusters: vec![cluster(0, 0..5), cluster(1, 5..7)],
            split_identities: vec![split],
            ..Default::default()
        };
        let mut shown = Vec::new();
        let mut skipped = Some(0);
        while let Some(before) = skipped {
            let mut operation =
                proto::Operation { result: Some(Ended::Clusters(whole.clone())), ..proto::Operation::default() };
            skipped = FindingsPage { skipped: before, limit: 3 }.cut(&mut operation);
            let Some(Ended::Clusters(page)) = operation.result else { panic!("clusters") };
            let members = page.clusters.iter().map(|cluster| (cluster.number, cluster.members.len()));
            shown.push((members.collect::<Vec<_>>(), page.split_identities.len()));
        }
        assert_eq!(shown, [(vec![(0, 3)], 0), (vec![(0, 2), (1, 1)], 0), (vec![(1, 1)], 1)]);
    }
}
