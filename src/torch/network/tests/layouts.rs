//! The tensors of each network: names, shapes and number.

use super::*;
use weights::Dtype;

/// Number of trained parameters of every architecture, without classifiers.
///
/// Published, in millions: ArcFace 24.0, 34.1, 43.6 and 65.2; OSNet 2.2, 1.3, 0.6 and 0.2; ResNet-50 23.5 without its
/// neck, whose bias of 2048 values is stored but not trained.
const TRAINED: [(&str, usize); 34] = [
    ("mobilefacenet-112x96", 999_552),
    ("mobilefacenet-insightface", 2_059_520),
    ("iresnet18-arcface", 24_025_600),
    ("iresnet34-arcface", 34_139_328),
    ("iresnet50-arcface", 43_590_848),
    ("iresnet100-arcface", 65_156_160),
    // Less by a projection of 64 channels, its normalisation, and the parameters of the last normalisation.
    ("iresnet18-adaface", 24_020_352),
    ("iresnet34-adaface", 34_134_080),
    ("iresnet50-adaface", 43_585_600),
    ("iresnet101-adaface", 65_150_912),
    ("osnet-x0.25", 201_864),
    ("osnet-x0.5", 630_034),
    ("osnet-x0.75", 1_285_754),
    ("osnet-x1.0", 2_169_508),
    ("osnet-ibn-x0.25", 202_120),
    ("osnet-ibn-x0.5", 630_546),
    ("osnet-ibn-x0.75", 1_286_522),
    ("osnet-ibn-x1.0", 2_170_532),
    ("osnet-ain-x0.25", 201_864),
    ("osnet-ain-x0.5", 630_034),
    ("osnet-ain-x0.75", 1_285_754),
    ("osnet-ain-x1.0", 2_169_508),
    ("resnet50-last", 23_508_032 + 4096),
    ("resnet50-ibn-a-last", 23_508_032 + 4096),
    ("resnet50-strong-baseline", 23_508_032 + 4096),
    ("resnet50-ibn-a-strong-baseline", 23_508_032 + 4096),
    ("resnet50-domainmix", 23_508_032 + 4096),
    ("resnet50-ibn-a-domainmix", 23_508_032 + 4096),
    ("resnet50-fastreid", 23_508_032 + 4096),
    ("resnet50-ibn-a-fastreid", 23_508_032 + 4096),
    ("gaitgraph-resgcn-n39-r8", 319_530),
    ("gait-tcn-60", 554_881),
    ("skeleton-pyramid", 4_499_904),
    ("gaitbase", 6_994_112),
];

type NamedShape<'a> = (&'a str, &'a [usize]);

/// Tensors that distinguish each layout, with their shapes.
const NAMED: [(&str, &[NamedShape]); 16] = [
    (
        "iresnet50-arcface",
        &[
            ("conv1.weight", &[64, 3, 3, 3]),
            ("prelu.weight", &[64]),
            ("layer1.0.downsample.0.weight", &[64, 64, 1, 1]),
            ("layer3.13.bn3.running_var", &[256]),
            ("layer4.0.conv2.weight", &[512, 512, 3, 3]),
            ("fc.weight", &[512, 25088]),
            ("features.weight", &[512]),
        ],
    ),
    ("iresnet100-arcface", &[("layer2.12.prelu.weight", &[128]), ("layer3.29.conv1.weight", &[256, 256, 3, 3])]),
    (
        "iresnet50-adaface",
        &[
            ("input_layer.2.weight", &[64]),
            ("body.3.shortcut_layer.0.weight", &[128, 64, 1, 1]),
            ("body.3.res_layer.4.weight", &[128, 128, 3, 3]),
            ("body.23.res_layer.5.running_mean", &[512]),
            ("output_layer.0.weight", &[512]),
            ("output_layer.3.weight", &[512, 25088]),
            ("output_layer.4.running_mean", &[512]),
        ],
    ),
    ("iresnet101-adaface", &[("body.48.res_layer.3.weight", &[512])]),
    (
        "mobilefacenet-insightface",
        &[
            ("layers.1.layers.0.weight", &[128, 2, 3, 3]),
            ("layers.2.layers.1.layers.0.weight", &[128, 1, 3, 3]),
            ("layers.5.layers.5.layers.2.layers.0.weight", &[256, 256, 1, 1]),
            ("layers.6.layers.0.layers.2.weight", &[512]),
            ("conv_sep.layers.0.weight", &[512, 256, 1, 1]),
            ("features.layers.0.layers.0.weight", &[512, 1, 7, 7]),
            ("features.layers.2.weight", &[512, 512]),
            ("features.layers.3.running_mean", &[512]),
        ],
    ),
    ("osnet-ibn-x1.0", &[("conv1.bn.bias", &[64]), ("conv2.1.IN.weight", &[256]), ("conv2.1.conv3.bn.weight", &[256])]),
    (
        "osnet-ain-x1.0",
        &[
            ("conv1.bn.weight", &[64]),
            ("conv2.0.conv2.0.layers.0.conv1.weight", &[64, 64, 1, 1]),
            ("conv2.0.conv2.3.layers.3.bn.running_mean", &[64]),
            ("conv2.0.downsample.bn.weight", &[256]),
            ("conv3.1.IN.bias", &[384]),
            ("conv4.1.conv3.bn.weight", &[512]),
            ("pool2.0.conv.weight", &[256, 256, 1, 1]),
            ("pool3.0.bn.bias", &[384]),
        ],
    ),
    (
        "resnet50-last",
        &[("base.0.weight", &[64, 3, 7, 7]), ("layer1.0.bn1.running_var", &[64]), ("bottleneck.bias", &[2048])],
    ),
    (
        "resnet50-strong-baseline",
        &[("base.conv1.weight", &[64, 3, 7, 7]), ("base.layer4.2.bn3.bias", &[2048]), ("bottleneck.weight", &[2048])],
    ),
    (
        "resnet50-domainmix",
        &[("base.1.bias", &[64]), ("base.4.0.conv1.weight", &[64, 64, 1, 1]), ("feat_bn.running_var", &[2048])],
    ),
    (
        "resnet50-ibn-a-domainmix",
        &[
            ("base.6.5.bn1.IN.weight", &[128]),
            ("base.6.5.bn1.BN.running_mean", &[128]),
            ("base.7.0.bn1.weight", &[512]),
        ],
    ),
    (
        "resnet50-fastreid",
        &[
            ("backbone.conv1.weight", &[64, 3, 7, 7]),
            ("backbone.layer4.0.downsample.0.weight", &[2048, 1024, 1, 1]),
            ("heads.bottleneck.0.running_mean", &[2048]),
        ],
    ),
    (
        "resnet50-ibn-a-fastreid",
        &[("backbone.layer1.2.bn1.IN.bias", &[32]), ("backbone.layer4.0.bn1.running_var", &[512])],
    ),
    (
        "skeleton-pyramid",
        &[
            ("stages.0.embed.weight", &[32, 2]),
            ("stages.0.joints", &[18, 32]),
            ("stages.1.space.layers.2.query_key_value.weight", &[192, 64]),
            ("stages.2.frames", &[61, 128]),
            ("stages.3.summary", &[1, 256]),
            ("stages.3.time.layers.0.contract.weight", &[256, 1024]),
            ("stages.3.time.norm.bias", &[256]),
            ("features.weight", &[256, 1600]),
        ],
    ),
    (
        "gaitbase",
        &[
            ("Backbone.forward_block.conv1.conv.weight", &[64, 1, 3, 3]),
            ("Backbone.forward_block.bn1.weight", &[64]),
            ("Backbone.forward_block.layer4.0.downsample.1.running_var", &[512]),
            ("FCs.fc_bin", &[16, 512, 256]),
        ],
    ),
    ("gaitgraph-resgcn-n39-r8", &[("fcn.weight", &[128, 256])]),
];

/// Additional tensors in the checkpoints of each layout.
const LEFT_BEHIND: [(&str, &[&str]); 8] = [
    ("osnet-x0.25", &["conv1.bn.num_batches_tracked", "classifier.weight", "classifier.bias"]),
    ("iresnet18-arcface", &["features.num_batches_tracked"]),
    ("resnet50-last", &["bottleneck.num_batches_tracked", "classifier.weight"]),
    ("resnet50-ibn-a-strong-baseline", &["classifier.weight", "base.fc.weight", "base.fc.bias"]),
    ("resnet50-domainmix", &["classifier.weight", "classifier_D.0.weight", "classifier_D.1.running_mean"]),
    ("resnet50-fastreid", &["heads.weight", "pixel_mean", "pixel_std"]),
    ("resnet50-ibn-a-fastreid", &["heads.classifier.weight"]),
    ("gaitbase", &["BNNecks.fc_bin", "BNNecks.bn1d.weight", "BNNecks.bn1d.running_var"]),
];

#[test]
fn networks_have_the_parameters_of_their_papers_and_name_misfits() {
    let _inference = runtime::prepare_thread();
    assert_eq!(Architecture::all().count(), TRAINED.len());
    for (name, expected) in TRAINED {
        let architecture: Architecture = name.parse().expect("built in");
        let SyntheticWeights { made, asked, .. } = SyntheticWeights::of(architecture, true);
        // Count trained parameters: no running statistics, no graph.
        let trained = |key: &str| !key.contains(".running_") && !["A", "input_branches.0.A"].contains(&key);
        let counted = made.iter().filter(|(key, _)| trained(key)).map(|(_, tensor)| tensor.elements()).sum::<usize>();
        assert_eq!(counted, expected, "{name}");
        assert_misfits_are_named(architecture, made, &asked);
    }
}

/// A state dict without its second tensor, with it in another shape, and with an additional tensor.
fn assert_misfits_are_named(architecture: Architecture, mut whole: StateDict, asked: &[String]) {
    let refused =
        |weights: StateDict| Network::build(architecture, weights, Folding::Folded).expect_err("does not fit");
    let (first, second) = (&asked[0], &asked[1]);
    let beginning = || {
        let mut weights = StateDict::default();
        weights.insert(first.clone(), whole.get(first).expect("was asked for").clone()).expect("a new name");
        weights
    };
    let missing = refused(beginning());
    assert!(matches!(&missing, NetworkError::MissingTensor(name) if *name == *second), "{architecture}: {missing}");

    let mut misshapen = beginning();
    let tensor = whole.get(second).expect("was asked for");
    let shape = [tensor.shape(), &[1]].concat();
    let tensor = RawTensor::new(tensor.dtype(), shape.clone(), tensor.bytes().to_vec()).expect("as many numbers");
    misshapen.insert(second.clone(), tensor).expect("a new name");
    let refusal = refused(misshapen);
    let named = matches!(&refusal, NetworkError::WrongShape { key, found, .. } if *key == *second && *found == shape);
    assert!(named, "{architecture}: {refusal}");

    let surplus = RawTensor::from_f32(vec![1], &[1.0]).expect("one number");
    whole.insert("surplus.weight".to_owned(), surplus).expect("a new name");
    let refusal = refused(whole);
    let named = matches!(&refusal, NetworkError::SurplusTensors { count: 1, first } if first == "surplus.weight");
    assert!(named, "{architecture}: {refusal}");
}

#[test]
fn layouts_have_the_names_and_shapes_that_were_published() {
    for (name, expected) in NAMED {
        let made = SyntheticWeights::of(name.parse().expect("built in"), true).made;
        for (key, shape) in expected {
            assert_eq!(made.get(key).map(RawTensor::shape), Some(*shape), "{name}: {key}");
        }
    }
}

#[test]
fn absent_normalisations_have_no_tensors() {
    let absent = [
        ("iresnet50-adaface", "body.0.shortcut_layer.0.weight"),
        ("iresnet50-adaface", "output_layer.4.weight"),
        ("osnet-ibn-x1.0", "conv1.bn.running_mean"),
        ("osnet-ibn-x1.0", "conv3.0.IN.weight"),
        ("osnet-ain-x1.0", "conv2.0.conv3.bn.weight"),
        ("osnet-ain-x1.0", "conv3.0.IN.weight"),
        ("resnet50-ibn-a-last", "layer1.0.bn1.weight"),
        ("resnet50-ibn-a-last", "layer4.0.bn1.IN.weight"),
        ("skeleton-pyramid", "stages.3.space.norm.weight"),
        ("gaitbase", "Backbone.forward_block.layer1.0.downsample.0.weight"),
    ];
    for (name, key) in absent {
        assert!(SyntheticWeights::of(name.parse().expect("built in"), true).made.get(key).is_none(), "{name}: {key}");
    }
}

#[test]
fn tensors_of_training_are_ignored() {
    for (name, keys) in LEFT_BEHIND {
        let architecture = name.parse().expect("built in");
        let mut weights = SyntheticWeights::of(architecture, true).made;
        for key in keys {
            let tensor = RawTensor::new(Dtype::I64, vec![1], vec![0; 8]).expect("one number");
            weights.insert((*key).to_owned(), tensor).expect("a new name");
        }
        Network::build(architecture, weights, Folding::Folded).expect("fits");
    }
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn published_weights_fit_and_nothing_else_does_on_real_data() {
    let data = testing::data();
    for (name, file, entry) in PUBLISHED {
        let architecture = name.parse().expect("built in");
        let weights = StateDict::read(&data.join(file), entry).expect("a checkpoint");
        let used = weights.iter().filter(|(key, _)| !key.contains("num_batches") && !key.starts_with("classifier."));
        let layout: Vec<_> = used.map(|(key, tensor)| (key.to_owned(), tensor.shape().to_vec())).collect();
        let own = synthetic_weights(architecture);
        let own: Vec<_> = own.iter().map(|(key, tensor)| (key.to_owned(), tensor.shape().to_vec())).collect();
        assert_eq!(layout, own, "{name}");
        Network::build(architecture, weights, Folding::Folded).expect("its own layout");
    }
}

#[test]
fn invalid_numbers_are_named() {
    let architecture = Architecture::OsNet(OsNetNorm::Batch, OsNetWidth::Quarter);
    let key = "conv1.bn.running_var";
    let refused = |tensor: RawTensor| {
        let mut weights = synthetic_weights(architecture);
        weights.remove(key);
        weights.insert(key.to_owned(), tensor).expect("just removed");
        Network::build(architecture, weights, Folding::Folded).expect_err("does not fit")
    };
    let constant = |number: f32| RawTensor::from_f32(vec![16], &[number; 16]).expect("sixteen numbers");
    for number in [f32::NAN, f32::INFINITY] {
        assert!(matches!(refused(constant(number)), NetworkError::NotFinite(name) if name == key));
    }
    assert!(matches!(refused(constant(-1.0)), NetworkError::NegativeVariance(name) if name == key));
    let whole = RawTensor::new(Dtype::I32, vec![16], vec![0; 64]).expect("sixteen numbers");
    assert!(matches!(refused(whole), NetworkError::WrongDtype { key: name, found: Dtype::I32 } if name == key));
}

#[test]
fn a_learnt_power_pools_by_the_generalised_mean_and_must_be_above_zero() {
    let _inference = runtime::prepare_thread();
    let architecture = Architecture::ResNet50(ResNet50Norm::Batch, ResNet50Layout::FastReid);
    let input = inputs(architecture, 1);
    let pooled_by = |power: Option<f32>| {
        let mut weights = synthetic_weights(architecture);
        if let Some(power) = power {
            let power = RawTensor::from_f32(vec![1], &[power]).expect("one number");
            weights.insert("heads.pool_layer.p".to_owned(), power).expect("a new name");
        }
        Network::build(architecture, weights, Folding::Folded)?.forward(&input, 1)
    };
    let mean = pooled_by(None).expect("runs");
    let cosine_similarity = cosine(&mean, &pooled_by(Some(1.0)).expect("runs"));
    assert!(cosine_similarity > 1.0 - 1e-6, "the power of one is the mean, {cosine_similarity}");
    let cosine_similarity = cosine(&mean, &pooled_by(Some(3.0)).expect("runs"));
    assert!(cosine_similarity < 0.9999, "the power of three is not, {cosine_similarity}");
    for power in [0.0, -3.0] {
        let refused = pooled_by(Some(power)).expect_err("no power");
        assert!(matches!(refused, NetworkError::NotAPower(name) if name == "heads.pool_layer.p"));
    }
}

#[test]
fn architectures_are_known_by_name() {
    for architecture in Architecture::all() {
        assert_eq!(architecture.to_string().parse::<Architecture>().expect("its own name"), architecture);
    }
    let unknown = "resnet-50".parse::<Architecture>().expect_err("not built in").to_string();
    assert!(unknown.contains("resnet-50") && unknown.contains("osnet-x0.25"));
}
