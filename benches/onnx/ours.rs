//! The house's half of the comparison with ONNX Runtime: runs networks as they are served, below the queue, as it is
//! told on standard input, and answers each line with one line. `compare.py` drives it and takes the time from outside,
//! for both halves with one clock.
//!
//! - `load ARCHITECTURE WEIGHTS` builds a network from a safetensors file.
//! - `input BATCH FILE` reads the batch that is run from then on, f32 in row-major order.
//! - `run TIMES` runs it so often.
//! - `output FILE` writes the last answer, f32 in row-major order.
//! - `multiply SIDE TIMES` multiplies two square matrices: what the same library reaches at its best.

use std::{
    error::Error,
    fs,
    hint::black_box,
    io::{self, BufRead, Write},
    path::Path,
    process,
};

use tch::{Device, Kind, Tensor};
use torch::{
    network::{Folding, Network},
    runtime,
};
use weights::StateDict;

fn main() -> Result<(), Box<dyn Error>> {
    let _inference = runtime::prepare_thread();
    let mut stand = Stand::default();
    let mut answers = io::stdout();
    writeln!(answers, "ready {}", process::id())?;
    for line in io::stdin().lock().lines() {
        stand.follow(&line?)?;
        writeln!(answers, "done")?;
        answers.flush()?;
    }
    Ok(())
}

/// What is being measured.
#[derive(Default)]
struct Stand {
    network: Option<Network>,
    input: Vec<f32>,
    batch: usize,
    output: Vec<f32>,
}

impl Stand {
    fn follow(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        match *line.splitn(3, ' ').collect::<Vec<_>>() {
            ["load", architecture, weights] => {
                let weights = StateDict::read(Path::new(weights), None)?;
                self.network = Some(Network::build(architecture.parse()?, weights, Folding::Folded)?);
            }
            ["input", batch, file] => {
                self.batch = batch.parse()?;
                self.input = fs::read(file)?.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            }
            ["run", times] => {
                let network = self.network.as_ref().ok_or("nothing is loaded")?;
                for _ in 0..times.parse::<usize>()? {
                    self.output = black_box(network.forward(&self.input, self.batch)?);
                }
            }
            ["output", file] => {
                let bytes: Vec<u8> = self.output.iter().flat_map(|number| number.to_le_bytes()).collect();
                fs::write(file, bytes)?;
            }
            ["multiply", side, times] => multiply(side.parse()?, times.parse()?)?,
            _ => return Err(format!("{line:?} is no command").into()),
        }
        Ok(())
    }
}

fn multiply(side: i64, times: usize) -> Result<(), Box<dyn Error>> {
    let matrix = || Tensor::f_randn([side, side], (Kind::Float, Device::Cpu));
    let (a, b) = (matrix()?, matrix()?);
    for _ in 0..times {
        drop(black_box(a.f_matmul(&b)?));
    }
    Ok(())
}
