//! One embedding space of one collection: rows, whose they are, and the graph over them once there are many.

mod cohort;

use std::{collections::HashMap, sync::Arc};

use rayon::ThreadPool;

use crate::{
    Bytes, GalleryOptions,
    graph::Graph,
    roster::Slot,
    rows::{
        Member, Rows,
        codes::Codes,
        kernel::Packing,
        measure::Measure,
        weights::{self, Shares, Voice},
    },
    scan::{
        pooled::{pooled, sweep_pooled},
        query::{Ask, PASS_MAX, Question},
        sweep,
        top::{Best, Hit},
    },
    snapshot::RowsFile,
    space::cohort::Cohort,
};
use domain::{Embedding, EmbeddingSpace, GalleryStatistics, Neighbour, OwnCosines, Pooling, Spread, TemplateId};

/// A graph that must look at more than so many times its usual width is slower than the scan.
const WIDTHS_MAX: usize = 8;

/// What a space's graph lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    /// The space has become large, or the graph is full of the forgotten.
    Build,
    /// Templates were admitted since the graph was built.
    Insert,
    /// The space has become small again.
    Drop,
}

#[derive(Debug)]
pub(crate) struct Space {
    rows: Rows,
    /// The row of each template. Numbers of 32 bits, because there is one for each.
    places: HashMap<TemplateId, u32>,
    owned: HashMap<Slot, Vec<TemplateId>>,
    /// Who stands for all where it is asked how near strangers are here.
    cohort: Cohort,
    qualities: Qualities,
    shares: Shares,
    graph: Option<Graph>,
    /// While a graph is being built from a snapshot of the rows: what was admitted since.
    since_snapshot: Option<Vec<TemplateId>>,
}

/// The sum of the qualities that are known, in millionths and whole numbers: what was added and taken away again leaves
/// nothing behind.
#[derive(Debug, Default)]
struct Qualities {
    millionths: i64,
    count: i64,
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

impl Space {
    pub(crate) fn new(of: EmbeddingSpace, packing: Packing) -> Self {
        Self::of(Rows::new(of.dimension, Measure::of_parts(of.parts), packing))
    }

    pub(crate) fn of(rows: Rows) -> Self {
        // Each on a thread of its own, where there are several: a start from a large snapshot waits for nothing else.
        let (places, (owned, cohort, qualities)) = rayon::join(
            || {
                let mut places = HashMap::with_capacity(rows.len());
                places.extend(rows.templates().iter().enumerate().map(|(row, template)| (*template, row_number(row))));
                places
            },
            || {
                let cohort = Cohort::of(&rows);
                let (mut owned, mut qualities) = (HashMap::<Slot, Vec<TemplateId>>::new(), Qualities::default());
                for member in (0..rows.len()).map(|row| rows.member(row)) {
                    owned.entry(member.owner).or_default().push(member.template);
                    qualities.add(member.quality, 1);
                }
                (owned, cohort, qualities)
            },
        );
        Self { rows, places, owned, cohort, qualities, shares: Shares::default(), graph: None, since_snapshot: None }
    }

    fn join(&mut self, row: usize) {
        let member = self.rows.member(row);
        self.places.insert(member.template, row_number(row));
        self.qualities.add(member.quality, 1);
        self.owned.entry(member.owner).or_default().push(member.template);
        self.weigh(member.owner);
    }

    /// Follows what came to an identity or left it.
    fn weigh(&mut self, owner: Slot) {
        if self.shares.are_kept() {
            let its_rows = self.rows_of(owner);
            self.shares.follow(&self.rows, &its_rows);
        }
    }

    /// A snapshot of the rows is their clone.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(crate) fn bytes(&self) -> Bytes {
        // A bucket of these tables is an entry and a byte.
        let place = size_of::<(TemplateId, u32)>() + 1;
        let owned = size_of::<(Slot, Vec<TemplateId>)>() + 1;
        let places =
            self.places.capacity() * place + self.owned.capacity() * owned + self.rows.len() * size_of::<TemplateId>();
        let graph = self.graph.as_ref().map_or(0, Graph::bytes);
        let rows = self.rows.bytes();
        Bytes { places: places as u64, graph: graph as u64, rows: rows.rows + self.shares.bytes() as u64, ..rows }
    }

    pub(crate) fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// The mean quality of the templates that have one.
    pub(crate) fn quality_mean(&self) -> Option<f64> {
        self.qualities.mean()
    }

    pub(crate) fn identities(&self) -> usize {
        self.owned.len()
    }

    /// Offers to each question the nearest templates that its sieve admits: from the graph where that can be trusted to
    /// have seen them all, else from a sweep, which all the others share.
    pub(crate) fn search(&self, questions: Vec<Question<'_, '_>>, threads: Option<&ThreadPool>) {
        let unanswered = |(ask, best): &mut Question<'_, '_>| {
            if ask.pooling != Pooling::Best {
                // A graph finds near templates, and they need not be of the nearest identities.
                sweep_pooled(&self.rows, (ask, self.voice(ask.pooling)), |owner| self.rows_of(owner), best);
                return false;
            }
            !self.graph.as_ref().is_some_and(|graph| self.walk(graph, ask, best))
        };
        let mut left: Vec<Question<'_, '_>> =
            questions.into_iter().filter_map(|mut question| unanswered(&mut question).then_some(question)).collect();
        for pass in left.chunks_mut(PASS_MAX) {
            sweep(&self.rows, pass, threads);
        }
    }

    /// How alike an identity is, and its most similar template.
    pub(crate) fn nearest_of(&self, ask: &Ask<'_>, owner: Slot) -> Option<Hit> {
        pooled(&self.rows, ask, self.voice(ask.pooling), (owner, &self.rows_of(owner)))
    }

    pub(crate) fn voice(&self, pooling: Pooling) -> Voice<'_> {
        let pooling = weights::in_space(self.rows.measure(), pooling);
        let identities = self.owned.keys().map(|owner| self.rows_of(*owner));
        Voice::new(pooling, self.shares.of(&self.rows, pooling, identities))
    }

    /// The most similar templates of these identities, up to `most` of them, and what surrounds them.
    pub(crate) fn neighbourhood(
        &self,
        probe: &Embedding,
        owners: &[Slot],
        most: usize,
    ) -> (Vec<Neighbour>, GalleryStatistics) {
        let mut nearest: Vec<(f32, Slot, usize, f32)> = Vec::new();
        for owner in owners {
            let rows = self.rows_of(*owner);
            let centroid = self.centroid_cosine(probe, &rows);
            let cosine = |row: usize| self.rows.measure().of(probe.values(), self.rows.values(row));
            nearest.extend(rows.into_iter().map(|row| (cosine(row), *owner, row, centroid)));
        }
        nearest.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.2.cmp(&other.2)));
        nearest.truncate(most);
        let neighbour = |(cosine, owner, row, centroid): (f32, Slot, usize, f32)| {
            let standing = self.cohort.standing(&self.rows, row);
            Neighbour {
                identity: owner.0.into(),
                identity_templates: u32::try_from(self.owned.get(&owner).map_or(0, Vec::len)).unwrap_or(u32::MAX),
                cosine,
                centroid,
                nearest_impostor: standing.nearest,
                own: self.own(owner, row),
                others: standing.others.spread(),
            }
        };
        let (impostor, genuine) = self.cohort.spreads();
        let surroundings = GalleryStatistics {
            templates: self.rows.len() as u64,
            identities: self.owned.len() as u64,
            impostor,
            genuine,
            nearest_impostors: self.cohort.nearest_impostors(),
            probe: self.cohort.spread_of(&self.rows, probe.values()).unwrap_or(Spread { mean: 0.0, deviation: 0.0 }),
        };
        (nearest.into_iter().map(neighbour).collect(), surroundings)
    }

    /// Of a probe and the direction between some rows.
    fn centroid_cosine(&self, probe: &Embedding, rows: &[usize]) -> f32 {
        let mut sum = vec![0.0; probe.values().len()];
        for row in rows {
            for (sum, value) in sum.iter_mut().zip(self.rows.values(*row)) {
                *sum += value;
            }
        }
        let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        // Templates that cancel each other out have no direction between them.
        if length < f32::EPSILON {
            return 0.0;
        }
        for value in &mut sum {
            *value /= length;
        }
        self.rows.measure().of(probe.values(), &sum)
    }

    /// How near a row's identity is to it.
    fn own(&self, owner: Slot, row: usize) -> Option<OwnCosines> {
        let others = self.rows_of(owner).into_iter().filter(|other| *other != row);
        let cosines: Vec<f32> =
            others.map(|other| self.rows.measure().of(self.rows.values(row), self.rows.values(other))).collect();
        let nearest = cosines.iter().copied().max_by(f32::total_cmp)?;
        Some(OwnCosines { nearest, mean: cosines.iter().sum::<f32>() / cosines.len() as f32 })
    }

    pub(crate) fn rows_of(&self, owner: Slot) -> Vec<usize> {
        let templates = self.owned.get(&owner).map_or(&[][..], Vec::as_slice);
        templates.iter().filter_map(|template| self.places.get(template)).map(|row| *row as usize).collect()
    }

    /// Adds a template; one that is there already stays as it is.
    pub(crate) fn admit(&mut self, member: Member, values: &[f32]) {
        let template = member.template;
        if self.places.contains_key(&template) {
            return;
        }
        let row = self.rows.push(member, values);
        self.join(row);
        self.cohort.admit(&self.rows, row);
        if let Some(graph) = &mut self.graph {
            graph.await_insertion(template);
        }
        if let Some(since) = &mut self.since_snapshot {
            since.push(template);
        }
    }

    /// Answers whether the template was here.
    pub(crate) fn forget_template(&mut self, template: TemplateId) -> bool {
        let Some(row) = self.places.get(&template) else {
            return false;
        };
        let owner = self.rows.owner(*row as usize);
        if let Some(left) = self.owned.get_mut(&owner) {
            left.retain(|t| *t != template);
            if left.is_empty() {
                self.owned.remove(&owner);
            }
        }
        self.remove_row(template);
        self.weigh(owner);
        true
    }

    /// Answers the templates that were forgotten.
    pub(crate) fn forget_owner(&mut self, owner: Slot) -> Vec<TemplateId> {
        let forgotten = self.owned.remove(&owner).unwrap_or_default();
        for template in &forgotten {
            self.remove_row(*template);
        }
        forgotten
    }

    /// Maps from the file what `written` was written to it from, where that has not changed since.
    pub(crate) fn adopt(&mut self, written: &Rows, file: &Arc<RowsFile>) {
        self.rows.adopt(written, file);
    }

    fn remove_row(&mut self, template: TemplateId) {
        let row = self.places.remove(&template).expect("every template that is owned has a row");
        self.cohort.forget(&self.rows, row as usize);
        self.qualities.add(self.rows.member(row as usize).quality, -1);
        self.shares.remove(row as usize);
        if let Some(moved) = self.rows.remove(row as usize) {
            self.places.insert(moved, row);
        }
    }

    /// Asks the graph, wider and wider, until nothing that it has not shown can matter. Templates of one identity
    /// crowd each other, forgotten points still stand in the graph, and filters turn points away: all three only
    /// make the walk wider. Answers whether it came to an end; a tie at the edge is for the scan to settle.
    fn walk(&self, graph: &Graph, ask: &Ask<'_>, best: &mut Best) -> bool {
        let width_max = ask.width * WIDTHS_MAX;
        if best.limit() as f64 > width_max as f64 * ask.sieve.share() {
            return false;
        }
        let widths = std::iter::successors(Some(ask.width), |w| Some(w * 2)).take_while(|w| *w <= width_max);
        for (step, width) in widths.enumerate() {
            let found = graph.nearest(ask.probe, width);
            for (template, most) in &found.near {
                if *most >= best.floor() {
                    self.offer(ask, *template, best);
                }
            }
            // Once the first walk has set a floor, which hardly anybody outside reaches.
            if step == 0 {
                for (template, most) in graph.outside(ask.probe) {
                    if most >= best.floor() {
                        self.offer(ask, template, best);
                    }
                }
            }
            if found.edge < best.floor() {
                return true;
            }
        }
        false
    }

    fn offer(&self, ask: &Ask<'_>, template: TemplateId, best: &mut Best) {
        if let Some(hit) = self.hit(ask.probe, template).filter(|hit| ask.sieve.admits(hit.owner)) {
            best.offer(hit);
        }
    }

    /// `None` for a forgotten template.
    fn hit(&self, probe: &[f32], template: TemplateId) -> Option<Hit> {
        let row = *self.places.get(&template)? as usize;
        Some(Hit {
            similarity: self.rows.measure().of(probe, self.rows.values(row)),
            template,
            owner: self.rows.owner(row),
        })
    }
}

/// The graph's life. Building takes minutes and happens outside any lock, on a snapshot; the rest is short.
impl Space {
    pub(crate) fn need(&self, options: &GalleryOptions) -> Need {
        let rows = self.rows.len();
        match &self.graph {
            None if rows >= options.graph_from.max(2) && self.has_codes_for_a_graph() => Need::Build,
            // Half, so that a space at the limit does not build and drop in turns.
            Some(_) if rows < options.graph_from / 2 => Need::Drop,
            Some(graph) if graph.forgotten_share(rows) >= options.rebuild_share => Need::Build,
            Some(graph) if graph.awaits_insertion() => Need::Insert,
            None | Some(_) => Need::Nothing,
        }
    }

    fn has_codes_for_a_graph(&self) -> bool {
        self.rows.codes().is_some_and(|codes| codes.packing() == Packing::Bytes)
    }

    /// What to build a graph over: codes and their templates. A graph that kept more would keep originals alive that a
    /// snapshot holds by now.
    pub(crate) fn begin_build(&mut self) -> Option<(Codes, Vec<TemplateId>)> {
        let codes = self.rows.codes()?.clone();
        self.since_snapshot = Some(Vec::new());
        Some((codes, self.rows.templates().to_vec()))
    }

    /// Puts the graph in place; what was admitted while it was built waits for insertion, and what was forgotten has
    /// no row any more. Answers the graph that is of no use now, to be dropped outside the lock.
    pub(crate) fn finish_build(&mut self, mut graph: Graph) -> Option<Graph> {
        // Nothing to catch up from means that the space was loaded anew meanwhile.
        let Some(since) = self.since_snapshot.take() else {
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

    /// Inserts one waiting template. Answers whether there was one.
    pub(crate) fn insert_next(&mut self) -> bool {
        let Some(graph) = &mut self.graph else {
            return false;
        };
        let Some(template) = graph.next_to_insert() else {
            return false;
        };
        if let Some(row) = self.places.get(&template) {
            graph.insert(template, self.rows.values(*row as usize));
        }
        true
    }
}

fn row_number(row: usize) -> u32 {
    u32::try_from(row).expect("memory ends long before 2^32 rows")
}
