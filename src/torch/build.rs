//! Tells the linker where libtorch lies. The packages above semblance-torch run this script too, for their tests.

#![expect(clippy::disallowed_methods, reason = "cargo speaks to builds through the environment")]

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=../torch/build.rs");
    // torch-sys tells semblance-torch, and semblance-torch tells the packages above it.
    let told = ["DEP_TCH_LIBTORCH_LIB", "DEP_SEMBLANCE_TORCH_LIBTORCH_LIB"];
    let Some(folder) = told.into_iter().find_map(|name| env::var(name).ok()) else { return };
    println!("cargo::metadata=libtorch_lib={folder}");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    // Nothing names the CUDA library: it registers itself when it is loaded, and the linker would drop it.
    if Path::new(&folder).join("libtorch_cuda.so").exists() {
        println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state");
    }
}
