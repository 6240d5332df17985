//! Passes the path of libtorch to the linker. Packages that depend on semblance-torch run this script too, for their
//! tests.

#![expect(clippy::disallowed_methods, reason = "cargo passes build settings through the environment")]

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=../torch/build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    // torch-sys passes the path to semblance-torch, which passes it to its direct dependents. The packages above those link
    // libtorch in their tests alone; .cargo/config.toml sets LIBTORCH for them.
    let variables = ["DEP_TCH_LIBTORCH_LIB", "DEP_SEMBLANCE_TORCH_LIBTORCH_LIB"];
    let passed = variables.into_iter().find_map(|name| env::var(name).ok());
    let Some(folder) = passed.or_else(|| env::var("LIBTORCH").ok().map(|root| format!("{root}/lib"))) else { return };
    println!("cargo::metadata=libtorch_lib={folder}");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    // No symbol refers to the CUDA library, which registers itself when loaded: without this the linker would drop it.
    if Path::new(&folder).join("libtorch_cuda.so").exists() {
        println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state");
    }
}
