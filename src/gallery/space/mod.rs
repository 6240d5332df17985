//! One embedding space of one collection: rows, lookup tables, and the graph when the space is large.

pub(crate) mod cohort;
mod images;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

use crate::{
    GalleryOptions, MemoryBytes,
    graph::Graph,
    roster::Slot,
    rows::{
        RowRecord, Rows,
        codes::Codes,
        kernel::Packing,
        mapped::MappedRows,
        measure::Measure,
        weights::{self, TemplateWeights, WeightedPooling},
    },
    scan::{
        pooled::{IdentityRows, pooled, scan_pooled},
        query::{PendingQuery, SCAN_BATCH_MAX, SpaceQuery},
        scan_codes,
        top::{Hit, TopIdentities},
    },
    space::{
        cohort::Cohort,
        images::{copies, is_copy},
    },
};
use domain::{Embedding, EmbeddingSpace, GalleryStatistics, Neighbour, Pooling, Spread, TemplateId};

pub(crate) use images::{centroid_cosine, distinct_images, own_cosines};

/// Maximum factor by which a search widens the graph search. Beyond it the scan is faster.
const WIDTHS_MAX: usize = 8;

/// Maintenance that a space's graph needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GraphTask {
    Nothing,
    /// The space has become large, or too many points of the graph are deleted.
    Build,
    /// Templates were added since the graph was built.
    Insert,
    /// The space has become small.
    Drop,
}

/// The templates of one space, by whether their identities are provisional. Both kinds have an index of their own, so
/// that provisional identities have no part in searches, statistics and rehearsals of the enrolled ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SpaceKey {
    pub(crate) space: EmbeddingSpace,
    pub(crate) provisional: bool,
}

#[derive(Debug)]
pub(crate) struct SpaceIndex {
    rows: Rows,
    /// Row index of each template. 32 bits, because there is one entry per template.
    row_numbers: HashMap<TemplateId, u32>,
    owned: HashMap<Slot, Vec<TemplateId>>,
    /// Templates with the image of an earlier template of the same identity.
    copies: HashSet<TemplateId>,
    /// Sample that estimates the mated and non-mated distributions.
    cohort: Cohort,
    qualities: Qualities,
    weights: TemplateWeights,
    graph: Option<Graph>,
    /// While a graph is built from a snapshot of the rows: templates added since.
    added_since_build: Option<Vec<TemplateId>>,
}

/// Running sum of known qualities in integer millionths, so that additions and removals cancel exactly.
#[derive(Debug, Default)]
struct Qualities {
    millionths: i64,
    count: i64,
}

/// A template near a probe.
struct NearTemplate {
    cosine: f32,
    /// Cosine of the probe with the mean direction of the owner's templates.
    centroid: f32,
    owner: Slot,
    row: usize,
}

impl Qualities {
    fn add(&mut self, quality: f32, times: i64) {
        if !quality.is_nan() {
            #[expect(clippy::cast_possible_truncation, reason = "a quality is 0 to 1")]
            let millionths = (f64::from(quality) * 1e6).round() as i64;
            self.millionths += times * millionths;
            self.count += times;
        }
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.millionths as f64 / 1e6 / self.count as f64)
    }
}

impl SpaceIndex {
    pub(crate) fn new(of: EmbeddingSpace, packing: Packing) -> Self {
        Self::of(Rows::new(of.dimension, Measure::of_parts(of.parts), packing))
    }

    pub(crate) fn of(rows: Rows) -> Self {
        // In parallel where threads are available: the start from a large snapshot waits for this.
        let (row_numbers, (owned, cohort, qualities)) = rayon::join(
            || {
                let mut row_numbers = HashMap::with_capacity(rows.len());
                row_numbers
                    .extend(rows.templates().iter().enumerate().map(|(row, template)| (*template, row_number(row))));
                row_numbers
            },
            || {
                let cohort = Cohort::of(&rows);
                let (mut owned, mut qualities) = (HashMap::<Slot, Vec<TemplateId>>::new(), Qualities::default());
                for record in (0..rows.len()).map(|row| rows.record(row)) {
                    owned.entry(record.owner).or_default().push(record.template);
                    qualities.add(record.quality, 1);
                }
                (owned, cohort, qualities)
            },
        );
        let copies = copies(&rows, &row_numbers, &owned);
        Self {
            rows,
            row_numbers,
            owned,
            copies,
            cohort,
            qualities,
            weights: TemplateWeights::default(),
            graph: None,
            added_since_build: None,
        }
    }

    fn join(&mut self, row: usize) {
        let record = self.rows.record(row);
        self.row_numbers.insert(record.template, row_number(row));
        self.qualities.add(record.quality, 1);
        self.owned.entry(record.owner).or_default().push(record.template);
        if is_copy(&self.rows, &self.rows_of(record.owner), row) {
            self.copies.insert(record.template);
        }
        self.update_weights(record.owner);
    }

    /// Updates the template weights after the identity's templates changed.
    fn update_weights(&mut self, owner: Slot) {
        if self.weights.are_computed() {
            let its_rows = self.rows_of(owner);
            self.weights.update(&self.rows, &its_rows);
        }
    }

    /// The rows. Clone them for a snapshot.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(crate) fn bytes(&self) -> MemoryBytes {
        // Each bucket of a hash table is an entry and one control byte.
        let row_entry = size_of::<(TemplateId, u32)>() + 1;
        let owned = size_of::<(Slot, Vec<TemplateId>)>() + 1;
        let lookups = self.row_numbers.capacity() * row_entry
            + self.owned.capacity() * owned
            + self.rows.len() * size_of::<TemplateId>();
        let graph = self.graph.as_ref().map_or(0, Graph::bytes);
        let rows = self.rows.bytes();
        MemoryBytes {
            lookups: lookups as u64,
            graph: graph as u64,
            rows: rows.rows + self.weights.bytes() as u64,
            ..rows
        }
    }

    pub(crate) fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// Mean quality of the templates that have one, 0 to 1.
    pub(crate) fn quality_mean(&self) -> Option<f64> {
        self.qualities.mean()
    }

    pub(crate) fn identities(&self) -> usize {
        self.owned.len()
    }

    /// Offers to each query the most similar templates that pass its filter: from the graph when its answer is known to
    /// be complete, otherwise from one scan that all remaining queries share.
    pub(crate) fn search(&self, pending: Vec<PendingQuery<'_, '_>>, threads: Option<&ThreadPool>) {
        let needs_scan = |pending: &mut PendingQuery<'_, '_>| {
            let pooling = pending.query.pooling;
            if pooling != Pooling::Best {
                // A graph finds similar templates; with pooling these need not belong to the most similar identities.
                scan_pooled(&self.rows, pending, self.weighted(pooling), |owner| self.rows_of(owner));
                return false;
            }
            !self.graph.as_ref().is_some_and(|graph| self.search_graph(graph, pending.query, pending.top))
        };
        let mut left: Vec<PendingQuery<'_, '_>> =
            pending.into_iter().filter_map(|mut pending| needs_scan(&mut pending).then_some(pending)).collect();
        for batch in left.chunks_mut(SCAN_BATCH_MAX) {
            scan_codes(&self.rows, batch, threads);
        }
    }

    /// Pooled similarity of one identity, with its most similar template.
    pub(crate) fn nearest_of(&self, query: &SpaceQuery<'_>, owner: Slot) -> Option<Hit> {
        pooled(&self.rows, query, self.weighted(query.pooling), IdentityRows { owner, rows: &self.rows_of(owner) })
    }

    pub(crate) fn weighted(&self, pooling: Pooling) -> WeightedPooling<'_> {
        let pooling = weights::pooling_in_space(self.rows.measure(), pooling);
        let identities = self.owned.keys().map(|owner| self.rows_of(*owner));
        WeightedPooling::new(pooling, self.weights.of(&self.rows, pooling, identities))
    }

    /// The at most `most` most similar templates of these identities, and statistics of the space.
    pub(crate) fn neighbourhood(
        &self,
        probe: &Embedding,
        owners: &[Slot],
        most: usize,
    ) -> (Vec<Neighbour>, GalleryStatistics) {
        let mut nearest: Vec<NearTemplate> = Vec::new();
        for owner in owners {
            let rows = self.images_of(*owner);
            let centroid = centroid_cosine(&self.rows, probe.values(), &rows);
            let cosine = |row: usize| self.rows.measure().of(probe.values(), self.rows.values(row));
            nearest.extend(rows.into_iter().map(|row| NearTemplate {
                cosine: cosine(row),
                centroid,
                owner: *owner,
                row,
            }));
        }
        nearest.sort_unstable_by(|one, other| other.cosine.total_cmp(&one.cosine).then(one.row.cmp(&other.row)));
        nearest.truncate(most);
        let neighbour = |NearTemplate { cosine, centroid, owner, row }: NearTemplate| {
            let statistics = self.cohort.statistics(&self.rows, row);
            Neighbour {
                identity: owner.0.into(),
                identity_templates: u32::try_from(self.images_of(owner).len()).unwrap_or(u32::MAX),
                cosine,
                centroid,
                nearest_impostor: statistics.nearest,
                own: own_cosines(&self.rows, &self.images_of(owner), row),
                others: statistics.others.spread(),
            }
        };
        let (impostor, genuine) = self.cohort.spreads();
        let surroundings = GalleryStatistics {
            templates: (self.rows.len() - self.copies.len()) as u64,
            identities: self.owned.len() as u64,
            impostor,
            genuine,
            nearest_impostors: self.cohort.nearest_impostors(),
            probe: self.cohort.spread_of(&self.rows, probe.values()).unwrap_or(Spread { mean: 0.0, deviation: 0.0 }),
        };
        (nearest.into_iter().map(neighbour).collect(), surroundings)
    }

    /// The rows of an identity, one per image: two templates of one image count once.
    fn images_of(&self, owner: Slot) -> Vec<usize> {
        let mut rows = self.rows_of(owner);
        if !self.copies.is_empty() {
            rows.retain(|row| !self.copies.contains(&self.rows.template(*row)));
        }
        rows
    }

    /// Finds the copies among the templates of an identity anew.
    fn update_copies(&mut self, owner: Slot) {
        let rows = self.rows_of(owner);
        let distinct = distinct_images(&self.rows, &rows);
        for row in rows {
            let template = self.rows.template(row);
            if distinct.contains(&row) {
                self.copies.remove(&template);
            } else {
                self.copies.insert(template);
            }
        }
    }

    pub(crate) fn rows_of(&self, owner: Slot) -> Vec<usize> {
        let templates = self.owned.get(&owner).map_or(&[][..], Vec::as_slice);
        templates.iter().filter_map(|template| self.row_numbers.get(template)).map(|row| *row as usize).collect()
    }

    /// Adds a template. Does nothing when it exists.
    pub(crate) fn admit(&mut self, record: RowRecord, values: &[f32]) {
        let template = record.template;
        if self.row_numbers.contains_key(&template) {
            return;
        }
        let row = self.rows.push(record, values);
        self.join(row);
        self.cohort.admit(&self.rows, row);
        if let Some(graph) = &mut self.graph {
            graph.await_insertion(template);
        }
        if let Some(since) = &mut self.added_since_build {
            since.push(template);
        }
    }

    /// Returns whether the template existed.
    pub(crate) fn forget_template(&mut self, template: TemplateId) -> bool {
        let Some(row) = self.row_numbers.get(&template) else {
            return false;
        };
        let owner = self.rows.owner(*row as usize);
        self.leave(owner, template);
        self.remove_row(template);
        if !self.copies.is_empty() {
            self.update_copies(owner);
        }
        self.update_weights(owner);
        true
    }

    /// Makes another identity the owner of a template. Returns whether the template exists.
    pub(crate) fn change_owner(&mut self, template: TemplateId, owner: Slot) -> bool {
        let Some(row) = self.row_numbers.get(&template).map(|row| *row as usize) else {
            return false;
        };
        let former = self.rows.owner(row);
        if former != owner {
            self.leave(former, template);
            self.rows.set_owner(row, owner);
            // By id, which is the order of enrollment: a template that moves there and back stands where it stood, so
            // that sums over the templates of an identity come out the same.
            let owned = self.owned.entry(owner).or_default();
            owned.insert(owned.partition_point(|other| *other < template), template);
            self.cohort.change_owner(&self.rows, row);
            // It may be the original of a copy there, or a copy of an original here.
            self.copies.remove(&template);
            self.update_copies(former);
            self.update_copies(owner);
            self.update_weights(former);
            self.update_weights(owner);
        }
        true
    }

    fn leave(&mut self, owner: Slot, template: TemplateId) {
        if let Some(left) = self.owned.get_mut(&owner) {
            left.retain(|t| *t != template);
            if left.is_empty() {
                self.owned.remove(&owner);
            }
        }
    }

    /// Removes the templates of an identity and returns them with their values, in the order of their enrollment.
    pub(crate) fn take_owner(&mut self, owner: Slot) -> Vec<(RowRecord, Vec<f32>)> {
        let taken = |row: usize| (self.rows.record(row), self.rows.values(row).to_vec());
        let taken = self.rows_of(owner).into_iter().map(taken).collect();
        self.forget_owner(owner);
        taken
    }

    /// Returns the removed templates.
    pub(crate) fn forget_owner(&mut self, owner: Slot) -> Vec<TemplateId> {
        let forgotten = self.owned.remove(&owner).unwrap_or_default();
        for template in &forgotten {
            self.remove_row(*template);
        }
        forgotten
    }

    /// Replaces values in memory by the mapped file, for rows that did not change since `written` was written to it.
    pub(crate) fn adopt(&mut self, written: &Rows, file: &Arc<MappedRows>) {
        self.rows.adopt(written, file);
    }

    fn remove_row(&mut self, template: TemplateId) {
        let row = self.row_numbers.remove(&template).expect("every template of an identity has a row");
        self.copies.remove(&template);
        self.cohort.forget(&self.rows, row as usize);
        self.qualities.add(self.rows.record(row as usize).quality, -1);
        self.weights.remove(row as usize);
        if let Some(moved) = self.rows.remove(row as usize) {
            self.row_numbers.insert(moved, row);
        }
    }

    /// Widens the graph search until no unseen template can change the answer. Templates of one identity that crowd
    /// each other, deleted points and filters only make the search wider. Returns false when the widest search is not
    /// enough; ties at the edge are left to the scan.
    fn search_graph(&self, graph: &Graph, query: &SpaceQuery<'_>, top: &mut TopIdentities) -> bool {
        let width_max = query.width * WIDTHS_MAX;
        if top.limit() as f64 > width_max as f64 * query.candidate_filter.share() {
            return false;
        }
        let widths = std::iter::successors(Some(query.width), |w| Some(w * 2)).take_while(|w| *w <= width_max);
        for (step, width) in widths.enumerate() {
            let found = graph.nearest(query.probe, width);
            for (template, upper) in &found.templates {
                if *upper >= top.floor() {
                    self.offer(query, *template, top);
                }
            }
            // After the first search the floor excludes nearly all templates that are not in the graph.
            if step == 0 {
                for (template, upper) in graph.unindexed(query.probe) {
                    if upper >= top.floor() {
                        self.offer(query, template, top);
                    }
                }
            }
            if found.edge < top.floor() {
                return true;
            }
        }
        false
    }

    fn offer(&self, query: &SpaceQuery<'_>, template: TemplateId, top: &mut TopIdentities) {
        if let Some(hit) = self.hit(query.probe, template).filter(|hit| query.candidate_filter.admits(hit.owner)) {
            top.offer(hit);
        }
    }

    /// `None` for a deleted template.
    fn hit(&self, probe: &[f32], template: TemplateId) -> Option<Hit> {
        let row = *self.row_numbers.get(&template)? as usize;
        Some(Hit {
            similarity: self.rows.measure().of(probe, self.rows.values(row)),
            template,
            owner: self.rows.owner(row),
        })
    }
}

/// Life cycle of the graph. Building takes minutes and runs on a snapshot without a lock; all other steps are short.
impl SpaceIndex {
    pub(crate) fn graph_task(&self, options: &GalleryOptions) -> GraphTask {
        let rows = self.rows.len();
        match &self.graph {
            None if rows >= options.graph_templates_min.max(2) && self.has_codes_for_a_graph() => GraphTask::Build,
            // Half of the limit, so that a space at the limit does not build and drop its graph alternately.
            Some(_) if rows < options.graph_templates_min / 2 => GraphTask::Drop,
            Some(graph) if graph.forgotten_share(rows) >= options.rebuild_share => GraphTask::Build,
            Some(graph) if graph.awaits_insertion() => GraphTask::Insert,
            None | Some(_) => GraphTask::Nothing,
        }
    }

    fn has_codes_for_a_graph(&self) -> bool {
        self.rows.codes().is_some_and(|codes| codes.packing() == Packing::Bytes)
    }

    /// Input of a graph build: the codes and their templates. Originals are left out, because the graph would keep them
    /// in memory after a snapshot holds them.
    pub(crate) fn begin_build(&mut self) -> Option<(Codes, Vec<TemplateId>)> {
        let codes = self.rows.codes()?.clone();
        self.added_since_build = Some(Vec::new());
        Some((codes, self.rows.templates().to_vec()))
    }

    /// Installs the graph. Templates added during the build wait for insertion. Returns the graph to drop outside the
    /// lock.
    pub(crate) fn finish_build(&mut self, mut graph: Graph) -> Option<Graph> {
        // No recorded list means that the space was replaced during the build.
        let Some(since) = self.added_since_build.take() else {
            return Some(graph);
        };
        for template in since {
            graph.await_insertion(template);
        }
        self.graph.replace(graph)
    }

    pub(crate) fn drop_graph(&mut self) -> Option<Graph> {
        self.graph.take()
    }

    /// Inserts one waiting template. Returns false when none waits.
    pub(crate) fn insert_next(&mut self) -> bool {
        let Some(graph) = &mut self.graph else {
            return false;
        };
        let Some(template) = graph.next_to_insert() else {
            return false;
        };
        if let Some(row) = self.row_numbers.get(&template) {
            graph.insert(template, self.rows.values(*row as usize));
        }
        true
    }
}

fn row_number(row: usize) -> u32 {
    u32::try_from(row).expect("memory ends long before 2^32 rows")
}
