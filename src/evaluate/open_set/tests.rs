use super::*;
use crate::metrics::Interval;

/// Well separated persons with tight samples in 24 dimensions.
fn easy(people: u32, samples: u32) -> EmbeddingSet {
    let mut set = EmbeddingSet { name: "easy".to_owned(), embeddings: Vec::new(), people: Vec::new() };
    for person in 0..people {
        for sample in 0..samples {
            let row = (0..24_u32).map(|n| {
                let (own, moved) = (person * 31 + n * 17, person + sample * 7 + n * 3);
                ((own * own % 101) as f32 - 50.0) + 0.05 * ((moved * moved % 97) as f32 - 48.0)
            });
            let row: Vec<f32> = row.collect();
            let length = row.iter().map(|number| number * number).sum::<f32>().sqrt();
            set.embeddings.push(row.iter().map(|number| number / length).collect());
            set.people.push(format!("p{person}"));
        }
    }
    set
}

#[test]
fn half_of_the_probes_are_nonmated_and_none_is_enrolled_itself() {
    let drawn = galleries(&easy(100, 4), 12, 1).expect("enough people");
    assert_eq!(drawn, galleries(&easy(100, 4), 12, 1).expect("enough people"), "the seed determines it");
    for gallery in &drawn.galleries {
        assert!((IDENTITIES.0..=IDENTITIES.1).contains(&gallery.identities), "{}", gallery.identities);
        let enrolled = gallery.trials.iter().filter(|trial| trial.is_enrolled).count();
        assert_eq!(2 * enrolled, gallery.trials.len());
        assert!(gallery.trials.iter().all(|trial| trial.measurement.scores.cosine < 0.999_999));
    }
}

const IDENTITIES: (usize, usize) = (20, 42);

#[test]
fn a_set_with_few_people_gives_no_gallery() {
    assert_eq!(galleries(&easy(30, 4), 1, 1), None);
    assert_eq!(galleries(&easy(100, 1), 1, 1), None);
}

#[test]
fn the_table_has_every_method_and_reads_as_json_and_text() {
    let drawn = galleries(&easy(100, 4), 8, 1).expect("enough people");
    let report = measure(Decider::shipped(), &[drawn]);
    let set = &report.sets[0];
    assert_eq!(set.rows.len(), 9);
    for row in &set.rows {
        let Estimate { value, interval: Interval { low, high } } = row.balanced_accuracy;
        assert!((0.0..=1.0).contains(&value) && low <= value && value <= high, "{row:?}");
        assert_eq!(row.auc.is_none(), row.method.starts_with("oracle"), "{row:?}");
    }
    assert!(set.rows[1].balanced_accuracy.value >= set.rows[0].balanced_accuracy.value, "the oracle knows more");
    let text = report.to_string();
    assert!(text.contains("set transformer") && text.contains("balanced accuracy by identities"), "{text}");
    let json = serde_json::to_value(&report).expect("a report");
    assert!(json["sets"][0]["rows"][8]["ece"]["value"].as_f64().is_some_and(|ece| ece < 0.5), "{json}");
}

#[test]
fn both_halves_have_equal_numbers_of_each_kind() {
    let drawn = galleries(&easy(100, 4), 3, 1).expect("enough people");
    for gallery in &drawn.galleries {
        let halves = halves(&gallery.trials);
        for (enrolled, half) in [(true, true), (true, false), (false, true), (false, false)] {
            let of =
                gallery.trials.iter().zip(&halves).filter(|(t, h)| (t.is_enrolled, **h) == (enrolled, half)).count();
            assert!(of.abs_diff(gallery.trials.len() / 4) <= 1, "{of} of {}", gallery.trials.len());
        }
    }
}

/// Targets of the shipped decider on real persons, with a margin for the small number of galleries.
#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn faces_and_pedestrians_are_decided_about_as_well_as_by_an_oracle_on_real_data() {
    for (name, person) in
        [("lfw_mobilefacenet", testing::lfw_person as fn(&str) -> &str), ("market_osnet", testing::market_person)]
    {
        let rows = testing::embeddings(name);
        let people = rows.iter().map(|(image, _)| person(image).to_owned()).collect();
        let embeddings = rows.into_iter().map(|(_, row)| row).collect();
        let set = EmbeddingSet { name: name.to_owned(), embeddings, people };
        let report = measure(Decider::shipped(), &[galleries(&set, 8, 3).expect("enough people")]);
        let accuracy = |row: usize| report.sets[0].rows[row].balanced_accuracy.value;
        let (cosine, oracle, of_others, network) = (accuracy(0), accuracy(1), accuracy(2), accuracy(8));
        assert!(network > oracle - 0.04 && network > cosine, "{name}: {network} {oracle} {cosine}\n{report}");
        assert!(of_others < oracle && network > of_others - 0.02, "{name}: {network} {of_others} {oracle}\n{report}");
    }
}
