use super::{parameters::Source, *};
use crate::{
    testdata,
    torch::{runtime, weights::RawTensor},
};

/// Every architecture, and how many numbers its weights have: OSNet's paper says 2.2, 1.3, 0.6 and 0.2 million.
const ALL: [(Architecture, usize); 7] = [
    (Architecture::MobileFaceNet112x96, 999_552),
    (Architecture::OsNet(OsNetWidth::Quarter), 201_864),
    (Architecture::OsNet(OsNetWidth::Half), 630_034),
    (Architecture::OsNet(OsNetWidth::ThreeQuarters), 1_285_754),
    (Architecture::OsNet(OsNetWidth::Full), 2_169_508),
    (Architecture::GaitGraphResGcnN39R8, 319_530),
    (Architecture::GaitTcn60, 554_881),
];

/// A published checkpoint of each network, with its entry.
const PUBLISHED: [(&str, &str, Option<&str>); 3] = [
    ("mobilefacenet-112x96", "face/weights/mobilefacenet_xiaoccer_068.ckpt", Some("net_state_dict")),
    ("osnet-x0.25", "person/weights/osnet_x0_25_market1501.pth", None),
    ("gaitgraph-resgcn-n39-r8", "gait/weights/gaitgraph_resgcn_n39_r8_ep100.pth", Some("model_state_dict")),
];

/// Makes up the tensors that a network asks for, and keeps them: a state dict of its layout.
struct Invention {
    random: Random,
    made: StateDict,
}

impl Source for Invention {
    fn take(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, NetworkError> {
        let count = shape.iter().product();
        // Weights that keep the size of what goes through them, so that no layer drowns in rounding.
        let fan_in = shape.get(1..).unwrap_or_default().iter().product::<usize>();
        let spread = (6.0 / fan_in as f32).sqrt();
        let numbers: Vec<f32> = (0..count)
            .map(|_| match key {
                _ if key.ends_with("running_var") => 0.5 + self.random.unit(),
                _ if shape.len() == 1 && key.ends_with("weight") => 0.5 + self.random.unit(),
                _ => (self.random.unit() - 0.5) * spread,
            })
            .collect();
        let tensor = RawTensor::from_f32(shape.to_vec(), &numbers).expect("as many as the shape says");
        self.made.insert(key.to_owned(), tensor).expect("every tensor is asked for once");
        Ok(numbers)
    }
}

/// xorshift64*, so that every run sees the same numbers.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit() * 2.0 - 1.0).collect()
    }
}

/// A state dict of the architecture's layout, for tests without real weights. It is the same one every time.
pub(crate) fn invented(architecture: Architecture) -> StateDict {
    let mut source = Invention { random: Random(41), made: StateDict::default() };
    architecture.layers(&mut Parameters::new(&mut source, Folding::Folded)).expect("the source has everything");
    source.made
}

fn inputs(architecture: Architecture, batch: usize) -> Vec<f32> {
    Random(7).numbers(batch * architecture.input_shape().iter().product::<usize>())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The lowest cosine between the folded and the unfolded network's answers.
fn folding_cosine(architecture: Architecture, weights: StateDict) -> f64 {
    let folded = Network::build(architecture, weights.clone(), Folding::Folded).expect("its own layout");
    let unfolded = Network::build(architecture, weights, Folding::Unfolded).expect("its own layout");
    let input = inputs(architecture, 4);
    let (folded, unfolded) = (folded.forward(&input, 4).expect("runs"), unfolded.forward(&input, 4).expect("runs"));
    let dimension = architecture.dimension();
    let pairs = folded.chunks(dimension).zip(unfolded.chunks(dimension));
    pairs.map(|(folded, unfolded)| cosine(folded, unfolded)).fold(f64::INFINITY, f64::min)
}

#[test]
fn folding_changes_no_answer() {
    let _settled = runtime::settle_thread();
    for (architecture, _) in ALL {
        let cosine = folding_cosine(architecture, invented(architecture));
        assert!(cosine >= 0.9999, "{architecture}: {cosine}");
    }
}

#[test]
fn folding_changes_no_answer_of_published_weights() {
    let Some(data) = testdata::folder() else { return };
    let _settled = runtime::settle_thread();
    for (name, file, entry) in PUBLISHED {
        let weights = StateDict::read(&data.join(file), entry).expect("a checkpoint");
        let cosine = folding_cosine(name.parse().expect("built in"), weights);
        assert!(cosine >= 0.9999, "{name}: {cosine}");
    }
}

#[test]
fn networks_have_the_parameters_of_their_papers() {
    for (architecture, expected) in ALL {
        // What is counted is what is trained: no running statistics, no graph.
        let trained = |key: &str| !key.contains(".running_") && !["A", "input_branches.0.A"].contains(&key);
        let weights = invented(architecture);
        let tensors = weights.iter().filter(|(key, _)| trained(key));
        assert_eq!(tensors.map(|(_, tensor)| tensor.elements()).sum::<usize>(), expected, "{architecture}");
    }
}

#[test]
fn published_weights_fit_and_nothing_else_does() {
    let Some(data) = testdata::folder() else { return };
    for (name, file, entry) in PUBLISHED {
        let architecture = name.parse().expect("built in");
        let weights = StateDict::read(&data.join(file), entry).expect("a checkpoint");
        let used = weights.iter().filter(|(key, _)| !key.contains("num_batches") && !key.starts_with("classifier."));
        let layout: Vec<_> = used.map(|(key, tensor)| (key.to_owned(), tensor.shape().to_vec())).collect();
        let own = invented(architecture);
        let own: Vec<_> = own.iter().map(|(key, tensor)| (key.to_owned(), tensor.shape().to_vec())).collect();
        assert_eq!(layout, own, "{name}");
        Network::build(architecture, weights, Folding::Folded).expect("its own layout");
    }
}

#[test]
fn a_batch_answers_as_its_members_do() {
    let _settled = runtime::settle_thread();
    for (architecture, _) in ALL {
        let network = Network::build(architecture, invented(architecture), Folding::Folded).expect("its own layout");
        let input = inputs(architecture, 8);
        let together = network.forward(&input, 8).expect("runs");
        let alone = input.chunks(input.len() / 8).flat_map(|one| network.forward(one, 1).expect("runs"));
        let largest = together.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
        assert!(largest > 1e-3, "{architecture}: an answer that says something");
        for (together, alone) in together.iter().zip(alone) {
            assert!((together - alone).abs() <= 1e-4 * largest.max(1.0), "{architecture}: {together} {alone}");
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let _settled = runtime::settle_thread();
    for (architecture, _) in ALL {
        let network = Network::build(architecture, invented(architecture), Folding::Folded).expect("its own layout");
        let input = inputs(architecture, 3);
        let bits =
            || network.forward(&input, 3).expect("runs").iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(), bits(), "{architecture}");
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let architecture = Architecture::OsNet(OsNetWidth::Quarter);
    let refused = |change: &dyn Fn(&mut StateDict)| {
        let mut weights = invented(architecture);
        change(&mut weights);
        Network::build(architecture, weights, Folding::Folded).expect_err("does not fit")
    };
    let put = |weights: &mut StateDict, key: &str, tensor: RawTensor| {
        weights.remove(key);
        weights.insert(key.to_owned(), tensor).expect("just removed");
    };
    let key = "conv1.bn.running_var";
    let constant = |number: f32| RawTensor::from_f32(vec![16], &[number; 16]).expect("sixteen numbers");
    let whole = || RawTensor::new(Dtype::I32, vec![16], vec![0; 64]).expect("sixteen numbers");

    let missing = refused(&|weights| drop(weights.remove(key)));
    assert!(matches!(missing, NetworkError::MissingTensor(name) if name == key));
    let surplus = refused(&|weights| put(weights, "conv9.weight", constant(1.0)));
    assert!(matches!(surplus, NetworkError::SurplusTensors { count: 1, first } if first == "conv9.weight"));
    let shape = refused(&|weights| put(weights, key, RawTensor::from_f32(vec![4, 4], &[1.0; 16]).expect("sixteen")));
    assert!(matches!(shape, NetworkError::WrongShape { key: name, .. } if name == key));
    for number in [f32::NAN, f32::INFINITY] {
        let strange = refused(&|weights| put(weights, key, constant(number)));
        assert!(matches!(strange, NetworkError::NotFinite(name) if name == key));
    }
    let negative = refused(&|weights| put(weights, key, constant(-1.0)));
    assert!(matches!(negative, NetworkError::NegativeVariance(name) if name == key));
    let integers = refused(&|weights| put(weights, key, whole()));
    assert!(matches!(integers, NetworkError::WrongDtype { key: name, found: Dtype::I32 } if name == key));
}

#[test]
fn what_training_alone_needs_is_passed_over() {
    let mut weights = invented(Architecture::OsNet(OsNetWidth::Quarter));
    let count = RawTensor::new(Dtype::I64, vec![], vec![0; 8]).expect("one number");
    weights.insert("conv1.bn.num_batches_tracked".to_owned(), count).expect("a new name");
    let head = RawTensor::from_f32(vec![2], &[0.0; 2]).expect("two numbers");
    weights.insert("classifier.bias".to_owned(), head).expect("a new name");
    Network::build(Architecture::OsNet(OsNetWidth::Quarter), weights, Folding::Folded).expect("fits");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let architecture = Architecture::GaitGraphResGcnN39R8;
    let network = Network::build(architecture, invented(architecture), Folding::Folded).expect("its own layout");
    assert!(matches!(network.forward(&[], 0), Err(NetworkError::EmptyBatch)));
    let wrong = network.forward(&[0.0; 3059], 1);
    assert!(matches!(wrong, Err(NetworkError::WrongInput { expected: 3060, found: 3059 })));
    assert!(matches!(network.forward(&[0.0; 3060], usize::MAX), Err(NetworkError::WrongInput { .. })));
}

#[test]
fn architectures_are_known_by_name() {
    for (architecture, _) in ALL {
        assert_eq!(architecture.to_string().parse::<Architecture>().expect("its own name"), architecture);
    }
    let unknown = "resnet-50".parse::<Architecture>().expect_err("not built in").to_string();
    assert!(unknown.contains("resnet-50") && unknown.contains("osnet-x0.25"));
}

/// Networks are built in one thread and run in another.
#[test]
fn a_network_moves_between_threads() {
    let architecture = Architecture::GaitGraphResGcnN39R8;
    let network = Network::build(architecture, invented(architecture), Folding::Folded).expect("its own layout");
    let elsewhere = std::thread::spawn(move || {
        let _settled = runtime::settle_thread();
        network.forward(&inputs(architecture, 1), 1).expect("runs").len()
    });
    assert_eq!(elsewhere.join().expect("no panic"), 128);
}
