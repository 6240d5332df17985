//! What an embedding costs at batch 1, 8 and 32, beside the physical limit: how fast the same thread multiplies large
//! matrices through the same library. Needs the installed starter packages (`semblance models pull NAME`).
//!
//! `SEMBLANCE_MODELS_DIR=data/models cargo bench --bench encode`

mod table;

use std::path::PathBuf;

use encoder::{EncoderArchitecture, Package};
use table::{Random, Table, say, seconds};
use tch::{Device, Kind, Tensor};
use torch::{
    network::{Folding, Network},
    runtime,
};

/// The networks with the work of one forward pass, in multiplications and additions (two operations each), from the
/// shapes of their layers.
const PACKAGES: [(&str, f64); 3] =
    [("face-mobilefacenet", 0.379e9), ("person-osnet-x0-25", 0.165e9), ("gait-graph", 0.276e9)];

#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
fn main() {
    let _inference = runtime::prepare_thread();
    let folder = std::env::var_os("SEMBLANCE_MODELS_DIR").map_or_else(|| PathBuf::from("data/models"), PathBuf::from);
    let peak = matrix_peak();
    let mut table = Table::new(["model", "batch", "ms a batch", "samples/s", "GFLOP/s", "of matrix peak"]);
    for (name, operations) in PACKAGES {
        let package = match Package::load(&folder.join(name)) {
            Ok(package) => package,
            Err(error) => {
                say(format_args!("{name} is skipped: {error}"));
                continue;
            }
        };
        let network = network(&package);
        let numbers: usize = network.architecture().input_shape().iter().product();
        for batch in [1, 8, 32] {
            let mut random = Random::new(batch as u64);
            let input: Vec<f32> = (0..numbers * batch).map(|_| random.normal()).collect();
            let took = seconds(24, || network.forward(&input, batch).expect("the network runs"));
            let rate = batch as f64 / took;
            table.row([
                name.to_owned(),
                batch.to_string(),
                format!("{:.2}", took * 1e3),
                format!("{rate:.0}"),
                format!("{:.1}", rate * operations / 1e9),
                format!("{:.2}", rate * operations / peak),
            ]);
        }
    }
    say(format_args!("encode: one thread, matrices multiply at {:.0} GFLOP/s", peak / 1e9));
    say(table);
}

fn network(package: &Package) -> Network {
    let architecture = package.manifest.encoder().map(|encoder| encoder.architecture);
    let (Some(EncoderArchitecture::BuiltIn(architecture)), Some(tensors)) = (architecture, package.tensors()) else {
        panic!("the starters are built in")
    };
    Network::build(architecture, tensors.clone(), Folding::Folded).expect("the package is whole")
}

/// Operations a second of a large matrix product.
fn matrix_peak() -> f64 {
    const SIDE: i64 = 1024;
    let (a, b) = (
        Tensor::randn([SIDE, SIDE], (Kind::Float, Device::Cpu)),
        Tensor::randn([SIDE, SIDE], (Kind::Float, Device::Cpu)),
    );
    let took = seconds(16, || a.matmul(&b).double_value(&[0, 0]));
    2.0 * (SIDE as f64).powi(3) / took
}
