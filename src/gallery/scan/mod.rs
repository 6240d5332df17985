//! The exact scan: one sweep over the codes for several probes, then a look at the originals of the few rows that the
//! codes could not turn away.
//!
//! Every row's code gives an interval in which its similarity lies. The lower ends of the best different identities seen
//! so far are a floor; a row whose upper end is below the floor is beaten by so many other identities, each by a
//! similarity that it has for certain, and cannot be answered. Rows whose upper end reaches the floor at the end are
//! suspects. Their similarities are computed from the originals, the likeliest first, until the answer is full and no
//! suspect reaches into it any more. So the answer is that of a look at every original: the same identities, templates,
//! similarities and order.

mod exact;
pub(crate) mod filter;
pub(crate) mod pooled;
pub(crate) mod query;
pub(crate) mod top;

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::ThreadPool;

use crate::{
    rows::{
        Rows,
        codes::{CodeRows, Codes, Probe, Term},
        kernel::Kernel,
    },
    scan::{
        exact::scan,
        query::{Ask, Question},
        top::{Best, Hit},
    },
};

/// Below this many bytes of codes a sweep ends before another thread has woken up.
const SHARED_BYTES_MIN: usize = 4 << 20;
/// So many rows are turned away at once.
const TURNED_AWAY: usize = 16;
/// So many suspects are kept before those are dropped that the floor has passed meanwhile.
const SUSPECTS_MIN: usize = 4096;

/// Offers to each question the nearest of the rows that its sieve admits. Exact, unless codes are of four bits, whose
/// intervals are only likely. All questions share one sweep.
pub(crate) fn sweep(rows: &Rows, questions: &mut [Question<'_, '_>], threads: Option<&ThreadPool>) {
    let Some(codes) = rows.codes() else {
        for (ask, best) in questions {
            scan(rows, ask.probe, ask.sieve, best);
        }
        return;
    };
    let asks: Vec<Asked<'_>> = questions.iter().map(|(ask, best)| Asked::new(ask, codes, best)).collect();
    let (selective, wide): (Vec<usize>, Vec<usize>) =
        (0..asks.len()).partition(|at| asks[*at].ask.sieve.is_selective());
    let mut found = found_by(rows, codes, &wide.iter().map(|at| &asks[*at]).collect::<Vec<_>>(), threads);
    for at in &selective {
        found.push(pick(rows, codes, &asks[*at]));
    }
    for (at, suspects) in wide.into_iter().chain(selective).zip(found) {
        let (ask, best) = &mut questions[at];
        settle(rows, ask, suspects, best);
    }
}

/// A question during a sweep.
struct Asked<'q> {
    ask: &'q Ask<'q>,
    probe: Probe,
    /// Like the answer that is wanted, to be filled with lower ends.
    floor: Best,
}

impl<'q> Asked<'q> {
    fn new(ask: &'q Ask<'_>, codes: &Codes, best: &Best) -> Self {
        Self { ask, probe: Probe::packed(ask.probe, codes.packing()), floor: best.emptied() }
    }
}

/// A row that may belong to the answer.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    row: usize,
    /// The most that its similarity can be.
    upper: f32,
}

/// What one thread found for one question.
struct Found {
    suspects: Vec<Suspect>,
    kept_max: usize,
    floor: Best,
    /// The upper ends of one block.
    uppers: Vec<f32>,
}

impl Found {
    fn new(asked: &Asked<'_>) -> Self {
        Self { suspects: Vec::new(), kept_max: SUSPECTS_MIN, floor: asked.floor.emptied(), uppers: Vec::new() }
    }

    /// Takes in the rows of a block, whose sums of products with the probe are given.
    fn take(&mut self, rows: &Rows, asked: &Asked<'_>, block: &CodeRows<'_>, sums: &[i32]) {
        let Asked { ask, probe, .. } = asked;
        let upper = |(sum, term): (&i32, &Term)| (probe.similarity(*sum, *term) + probe.error(*term)).min(1.0);
        self.uppers.clear();
        self.uppers.extend(sums.iter().zip(block.terms).map(upper));
        let mut floor = self.floor.floor();
        for (group, uppers) in self.uppers.chunks(TURNED_AWAY).enumerate() {
            // Nearly all rows are turned away here, many at a time, before their owner is even looked up. Not `f32::max`,
            // which asks about NaN and becomes no instruction.
            let most = uppers.iter().fold(f32::MIN, |most, upper| if *upper > most { *upper } else { most });
            if most < floor {
                continue;
            }
            for (at, upper) in (group * TURNED_AWAY..).zip(uppers).filter(|(_, upper)| **upper >= floor) {
                let row = block.first + at;
                if !ask.sieve.admits(rows.owner(row)) {
                    continue;
                }
                self.suspects.push(Suspect { row, upper: *upper });
                let term = block.terms[at];
                let lower = (probe.similarity(sums[at], term) - probe.error(term)).clamp(-1.0, 1.0);
                self.floor.offer(Hit { similarity: lower, template: rows.template(row), owner: rows.owner(row) });
            }
            floor = self.floor.floor();
        }
        if self.suspects.len() > self.kept_max {
            self.suspects.retain(|suspect| suspect.upper >= floor);
            self.kept_max = SUSPECTS_MIN.max(self.suspects.len() * 2);
        }
    }

    fn join(mut self, other: Self) -> Self {
        other.floor.into_hits().into_iter().for_each(|hit| self.floor.offer(hit));
        self.suspects.extend(other.suspects);
        self
    }

    fn into_suspects(mut self) -> Vec<Suspect> {
        let floor = self.floor.floor();
        self.suspects.retain(|suspect| suspect.upper >= floor);
        self.suspects
    }
}

/// The suspects of each question.
fn found_by(rows: &Rows, codes: &Codes, asked: &[&Asked<'_>], threads: Option<&ThreadPool>) -> Vec<Vec<Suspect>> {
    if asked.is_empty() {
        return Vec::new();
    }
    let next = AtomicUsize::new(0);
    let walk = || {
        let mut found: Vec<Found> = asked.iter().map(|asked| Found::new(asked)).collect();
        let probes: Vec<&[i16]> = asked.iter().map(|asked| asked.probe.numbers()).collect();
        let (mut sums, kernel) = (Vec::new(), Kernel::fastest());
        // Blocks are handed out one by one: a thread that a neighbour holds up takes fewer.
        while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < codes.blocks()) {
            let block = codes.block(index);
            kernel.sums(&probes, (block.numbers, codes.packing()), codes.stride(), &mut sums);
            for ((found, asked), sums) in found.iter_mut().zip(asked).zip(sums.chunks_exact(block.terms.len())) {
                found.take(rows, asked, &block, sums);
            }
        }
        found
    };
    let found = match threads.filter(|_| codes.len() * codes.stride() >= SHARED_BYTES_MIN) {
        None => walk(),
        Some(threads) => {
            let parts = threads.broadcast(|_| walk());
            let join =
                |one: Vec<Found>, other: Vec<Found>| one.into_iter().zip(other).map(|(a, b)| a.join(b)).collect();
            parts.into_iter().reduce(join).unwrap_or_default()
        }
    };
    found.into_iter().map(Found::into_suspects).collect()
}

/// The suspects when most rows are turned away by the sieve: their codes are not even read.
fn pick(rows: &Rows, codes: &Codes, asked: &Asked<'_>) -> Vec<Suspect> {
    let (mut found, kernel) = (Found::new(asked), Kernel::fastest());
    let mut sums = Vec::new();
    for row in (0..rows.len()).filter(|row| asked.ask.sieve.admits(rows.owner(*row))) {
        let code = codes.code(row);
        kernel.sums(&[asked.probe.numbers()], (code.numbers, codes.packing()), codes.stride(), &mut sums);
        let block = CodeRows { first: row, numbers: code.numbers, terms: &[code.term] };
        found.take(rows, asked, &block, &sums);
    }
    found.into_suspects()
}

/// Looks at the originals of the suspects.
fn settle(rows: &Rows, ask: &Ask<'_>, mut suspects: Vec<Suspect>, best: &mut Best) {
    suspects.sort_unstable_by(|one, other| other.upper.total_cmp(&one.upper));
    for Suspect { row, upper } in suspects {
        if upper < best.floor() {
            break;
        }
        let similarity = rows.measure().of(ask.probe, rows.values(row));
        best.offer(Hit { similarity, template: rows.template(row), owner: rows.owner(row) });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        roster::{Roster, Slot},
        rows::{
            Member,
            kernel::Packing,
            measure::{Measure, similarity_of},
        },
        scan::filter::Sieve,
        testbed::{embedding, id, now, roster, unit_rows},
    };
    use domain::{Filter, Identity, IdentityId, Labels, Pooling, Revision, TemplateId};

    /// What a look at every original answers.
    fn brute_force(rows: &Rows, ask: &Ask<'_>, best: &mut Best) {
        for row in 0..rows.len() {
            if ask.sieve.admits(rows.owner(row)) {
                let similarity = similarity_of(ask.probe, rows.values(row));
                best.offer(Hit { similarity, template: rows.template(row), owner: rows.owner(row) });
            }
        }
    }

    fn rows_of(vectors: &[Vec<f32>], people: usize) -> Rows {
        let mut rows = Rows::new(u32::try_from(vectors[0].len()).expect("short"), Measure::Whole, Packing::Bytes);
        for (number, vector) in vectors.iter().enumerate() {
            let owner = Slot(u32::try_from(number * 31 % people).expect("few"));
            // Ids in no order, so that ties are not broken by accident.
            let template = TemplateId(Uuid::from_u128((number as u128 * 7919) % 104_729));
            rows.push(Member { owner, template, quality: f32::NAN }, vector);
        }
        rows
    }

    /// Near-ties, duplicates and clusters: numbers that differ in the last place, the same vector many times.
    fn adversarial() -> impl Strategy<Value = Vec<Vec<f32>>> {
        let seeds = (1_u64..1000, 1_usize..4, prop_oneof![Just(3_usize), Just(64), Just(130)]);
        let vectors = seeds.prop_flat_map(|(seed, centres, dimension)| {
            let centres = unit_rows(centres, dimension, seed);
            let step = prop_oneof![Just(0.0_f32), Just(1e-7), Just(1e-5), Just(1e-3), Just(0.3)];
            let row = (0..centres.len(), 0..dimension, step).prop_map(move |(centre, at, step)| {
                let mut row = centres[centre].clone();
                row[at] += step;
                embedding(&row).values().to_vec()
            });
            prop::collection::vec(row, 1..400)
        });
        vectors.boxed()
    }

    fn answers(rows: &Rows, probes: &[Vec<f32>], sieve: &Sieve<'_>, limit: usize) -> [Vec<Vec<Hit>>; 2] {
        let asks: Vec<Ask<'_>> =
            probes.iter().map(|probe| Ask { probe, sieve, width: 1, pooling: Pooling::Best }).collect();
        let mut bests: Vec<Best> = probes.iter().map(|_| Best::new(limit, None)).collect();
        let mut questions: Vec<Question<'_, '_>> = asks.iter().zip(&mut bests).collect();
        sweep(rows, &mut questions, None);
        let exact = asks.iter().map(|ask| {
            let mut best = Best::new(limit, None);
            brute_force(rows, ask, &mut best);
            best.into_hits()
        });
        [bests.into_iter().map(Best::into_hits).collect(), exact.collect()]
    }

    proptest! {
        #[test]
        fn a_sweep_answers_what_a_look_at_every_number_answers(
            vectors in adversarial(), people in 1_usize..90, limit in 0_usize..20, probes in 1_usize..10, which in 0_usize..3,
        ) {
            let rows = rows_of(&vectors, people);
            let roster = roster(people);
            let filter = [None, Some("labels.half = \"1\""), Some("labels.ten = \"4\"")][which];
            let filter = filter.map(|text| Filter::parse(text).expect("valid"));
            let sieve = Sieve::new(&roster, filter.as_ref(), now());
            let probes: Vec<Vec<f32>> = vectors.iter().rev().cycle().take(probes).cloned().collect();
            let [found, exact] = answers(&rows, &probes, &sieve, limit);
            prop_assert_eq!(found, exact);
        }
    }

    /// Rows of real people, and probes that are not among them.
    struct Real {
        roster: Roster,
        rows: Rows,
        probes: Vec<Vec<f32>>,
    }

    fn real(set: &str, person: fn(&str) -> &str, packing: Packing) -> Real {
        let all = testing::embeddings(set);
        let mut names: Vec<IdentityId> = all.iter().map(|(image, _)| id(person(image))).collect();
        names.sort_unstable();
        names.dedup();
        let mut roster = Roster::default();
        for name in &names {
            roster.put(&Identity {
                id: name.clone(),
                labels: Labels::default(),
                expire_time: None,
                revision: Revision::FIRST,
                create_time: now(),
                update_time: now(),
            });
        }
        let mut rows = Rows::new(u32::try_from(all[0].1.len()).expect("short"), Measure::Whole, packing);
        for (number, (image, values)) in all.iter().enumerate().filter(|(number, _)| number % 20 != 0) {
            let owner = roster.slot(&id(person(image))).expect("enrolled above");
            let template = TemplateId(Uuid::from_u128(number as u128));
            rows.push(Member { owner, template, quality: f32::NAN }, embedding(values).values());
        }
        let probes: Vec<Vec<f32>> =
            all.iter().step_by(20).map(|(_, values)| embedding(values).values().to_vec()).collect();
        Real { roster, rows, probes }
    }

    /// Exact, and few originals are looked at, which is what makes a sweep worth it.
    fn is_exact_on(set: &str, person: fn(&str) -> &str) {
        let Real { roster, rows, probes } = real(set, person, Packing::Bytes);
        let sieve = Sieve::new(&roster, None, now());
        for limit in [1, 10] {
            let [found, exact] = answers(&rows, &probes, &sieve, limit);
            assert_eq!(found, exact, "{set}");
        }
        let suspects = |probe: &Vec<f32>| {
            let ask = Ask { probe, sieve: &sieve, width: 1, pooling: Pooling::Best };
            let codes = rows.codes().expect("a whole space");
            let asked = Asked::new(&ask, codes, &Best::new(10, None));
            found_by(&rows, codes, &[&asked], None)[0].len()
        };
        let mut counts: Vec<usize> = probes.iter().map(suspects).collect();
        counts.sort_unstable();
        let (median, most) = (counts[counts.len() / 2], counts[counts.len() - 1]);
        assert!(median <= 80, "{set}: half of the probes leave {median} suspects, one {most}");
    }

    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    fn a_sweep_over_faces_is_exact_and_reranks_few_on_real_data() {
        is_exact_on("lfw_mobilefacenet", testing::lfw_person);
    }

    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    fn a_sweep_over_bodies_is_exact_and_reranks_few_on_real_data() {
        is_exact_on("market_osnet", testing::market_person);
    }

    /// Codes of four bits turn away by what is likely. How much they miss is measured, and said.
    #[test]
    #[ignore = "needs SEMBLANCE_TEST_DATA"]
    #[expect(clippy::print_stderr, reason = "the measured recall is what the test is for")]
    fn codes_of_four_bits_find_nearly_all_on_real_data() {
        for (set, person) in
            [("lfw_mobilefacenet", testing::lfw_person as fn(&str) -> &str), ("market_osnet", testing::market_person)]
        {
            let Real { roster, rows, probes } = real(set, person, Packing::Nibbles);
            let sieve = Sieve::new(&roster, None, now());
            let [found, exact] = answers(&rows, &probes, &sieve, 10);
            let wanted: usize = exact.iter().map(Vec::len).sum();
            let hits =
                found.iter().zip(&exact).map(|(found, exact)| exact.iter().filter(|hit| found.contains(hit)).count());
            let recall = hits.sum::<usize>() as f64 / wanted as f64;
            eprintln!("{set}: recall@10 of codes of four bits {recall:.5} over {} probes", probes.len());
            assert!(recall >= 0.999);
        }
    }
}
