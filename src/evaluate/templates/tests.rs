use super::*;

fn row<'t>(table: &'t TemplatesTable, way: &str) -> &'t MethodRow {
    table.rows.iter().find(|row| row.way == way).expect("a way of the table")
}

/// The claim: an agreement-weighted prototype keeps most of what a plain mean loses.
fn withstands_a_swap(measured: &Templates, clean_cost: f64) {
    for table in &measured.tables {
        let lost = |way: &str| row(table, way).lost;
        let share = lost("prototype").of_plain_mean.expect("the plain mean loses something").value;
        assert!(share <= 0.6, "{share}\n{measured}");
        let rank_1 = |way: &str| row(table, way).cells[WHOLE].rank_1.value;
        assert!(rank_1("prototype") > rank_1("plain mean") - clean_cost, "{measured}");
    }
}

/// With one template each, every method gives the same ranking, also with re-ranking.
fn leaves_single_templates_alone(measured: &Templates) {
    for table in &measured.tables {
        let best = row(table, "best").cells[0];
        for row in &table.rows {
            let cell = row.cells[0];
            assert_eq!((cell.rank_1, cell.map), (best.rank_1, best.map), "{}\n{measured}", row.way);
            assert!(cell.reranked.is_none_or(|share| share == 0.0), "{measured}");
        }
    }
}

#[test]
fn a_prototype_of_simulated_people_withstands_one_bad_sample_of_four() {
    let measured = measure(&simulated(1.2, 1), 2, 1).expect("people of nine samples");
    withstands_a_swap(&measured, 0.02);
    leaves_single_templates_alone(&measured);
    let [alone, among] = &measured.tables[..] else { panic!("{measured}") };
    assert_eq!((alone.people, alone.identities, among.identities), (150, 150, 250));
    assert_eq!(alone.probes, 2 * 150 * 5);
    let map = |way: &str| row(alone, way).cells[WHOLE].map_of_templates.expect("templates are ranked").value;
    assert!(map("centralised") > map("best + neighbours") && map("best + k-reciprocal") > map("best"), "{measured}");
    assert!(map("best + neighbours") > map("best") + 0.05, "{measured}");
    assert_eq!(row(alone, "best + neighbours").cells[WHOLE].reranked, Some(1.0), "four templates are enough");
}

#[test]
fn the_seed_determines_a_table_and_it_serialises_as_json() {
    let set = simulated(1.2, 3);
    let measured = measure(&set, 1, 5).expect("people of nine samples");
    assert_eq!(measured, measure(&set, 1, 5).expect("people of nine samples"));
    assert_ne!(measured, measure(&set, 1, 6).expect("people of nine samples"));
    let json = serde_json::to_value(&measured).expect("a report");
    let rank_1 = &json["tables"][0]["rows"][3]["cells"][2]["rank_1"];
    assert!(rank_1["low"].as_f64() <= rank_1["value"].as_f64() && rank_1["value"].as_f64() <= Some(1.0), "{json}");
    assert!(measured.to_string().contains("one of 4 swapped"), "{measured}");
}

#[test]
fn every_sample_of_a_swapped_gallery_is_enrolled_once_and_never_searches() {
    let drawn = TemplateDraw::new(&simulated(1.2, 3), 1, 0).expect("people of nine samples");
    for (place, own) in drawn.identities(EnrolledSamples::Swapped, false).iter().enumerate() {
        assert_eq!(own[..3], drawn.enrolled[place][..3]);
        assert!(!drawn.enrolled[place].contains(&own[3]));
    }
    let mut all: Vec<usize> = drawn.identities(EnrolledSamples::Swapped, true).concat();
    all.extend(drawn.probes.iter().map(|probe| probe.sample));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn a_set_with_few_samples_per_person_is_refused() {
    let set = SampleSet {
        name: "few".to_owned(),
        embeddings: vec![vec![1.0, 0.0]; 8],
        people: (0..8).map(|sample| format!("{}", sample / 4)).collect(),
        qualities: vec![f32::NAN; 8],
    };
    assert_eq!(measure(&set, 1, 1), None);
}

/// Targets on faces and pedestrians.
#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn prototypes_withstand_one_bad_sample_of_four_on_real_data() {
    for (name, person) in
        [("lfw_mobilefacenet", testing::lfw_person as fn(&str) -> &str), ("market_osnet", testing::market_person)]
    {
        let rows = testing::embeddings(name);
        let unit = |row: Vec<f32>| {
            let length = row.iter().map(|number| number * number).sum::<f32>().sqrt();
            row.into_iter().map(|number| number / length).collect()
        };
        let people = rows.iter().map(|(image, _)| person(image).to_owned()).collect();
        let qualities = vec![f32::NAN; rows.len()];
        let embeddings = rows.into_iter().map(|(_, row)| unit(row)).collect();
        let set = SampleSet { name: name.to_owned(), embeddings, people, qualities };
        let measured = measure(&set, 3, 1).expect("many people of five samples");
        withstands_a_swap(&measured, 0.02);
        leaves_single_templates_alone(&measured);
    }
}
