//! Outputs of PyTorch 2.13 for the same weights and inputs. The PyTorch networks were written layer by layer from the
//! publications, independently of this package: a wrong stride, padding, order or activation shows.

use super::*;

/// Six values of an output, at multiples of an eighth of its length.
const ANSWERS: [(&str, [f32; 6]); 14] = [
    ("iresnet18-adaface", [0.02323, 0.48511, 0.39119, -0.24373, -0.09511, -0.33786]),
    ("iresnet18-arcface", [0.06172, 0.20494, -0.00487, -0.0152, 0.03471, 0.14177]),
    ("mobilefacenet-insightface", [0.02722, 0.03154, -0.03804, 0.0099, 0.03274, -0.0439]),
    ("osnet-ain-x0.25", [0.0, 0.18205, 0.0, 0.08965, 0.0, 0.0]),
    ("osnet-ibn-x0.25", [0.00937, 0.03926, 0.0, 0.0, 0.00008, 0.0]),
    ("osnet-x0.25", [0.01775, 0.04013, 0.0, 0.0, 0.00313, 0.0]),
    ("resnet50-fastreid", [0.04489, 0.15578, -0.01649, 0.02025, -0.014, 0.01429]),
    ("resnet50-ibn-a-domainmix", [0.08178, 0.04125, 0.30567, 0.00784, 0.15313, 0.23054]),
    ("resnet50-ibn-a-fastreid", [0.19709, 0.31276, -0.01083, 0.03302, 0.01473, 0.06193]),
    ("resnet50-ibn-a-strong-baseline", [0.01813, 0.06272, 0.06593, 0.05969, 0.01054, 0.02934]),
    ("resnet50-last", [0.06236, 0.00208, 0.26575, 0.00967, 0.01416, -0.01876]),
    ("resnet50-strong-baseline", [0.003, 0.01029, 0.07189, 0.05281, 0.00699, -0.02125]),
    ("gaitbase", [0.19953, 0.75103, -0.12085, -0.35254, -0.43661, 0.303]),
    ("skeleton-pyramid", [1.02957, -0.88614, -1.31791, -0.37188, 0.20167, 0.35378]),
];

#[test]
fn networks_give_the_outputs_of_pytorch() {
    let _inference = runtime::prepare_thread();
    for (name, expected) in ANSWERS {
        let architecture: Architecture = name.parse().expect("built in");
        let network =
            Network::build(architecture, synthetic_weights(architecture), Folding::Folded).expect("its own layout");
        let answer = network.forward(&inputs(architecture, 1), 1).expect("runs");
        let largest = answer.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
        let eighth = answer.len() / 8;
        for (number, expected) in answer[eighth..].iter().step_by(eighth).zip(expected) {
            assert!((number - expected).abs() <= 2e-4 * largest, "{name}: {number}, not {expected}");
        }
    }
}
