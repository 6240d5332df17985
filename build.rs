//! Compiles the contract and tells the linker where libtorch lies, and what of it is needed.

#![expect(clippy::disallowed_methods, reason = "cargo speaks to builds through the environment")]

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost_build::Config;

const PROTOS: [&str; 9] = [
    "semblance/v1/calibration.proto",
    "semblance/v1/collection.proto",
    "semblance/v1/decision.proto",
    "semblance/v1/identity.proto",
    "semblance/v1/model.proto",
    "semblance/v1/operation.proto",
    "semblance/v1/recognition.proto",
    "semblance/v1/review.proto",
    "semblance/v1/template.proto",
];

const UNSHOWN: [&str; 4] =
    [".semblance.v1.Image", ".semblance.v1.PoseFile", ".semblance.v1.Embedding", ".semblance.v1.Skeleton.Frame"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // What cargo-fuzz sets.
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    contract()?;
    libtorch();
    Ok(())
}

/// Rust types and services, and the descriptors with comments: REST routes, JSON and OpenAPI are read from those.
fn contract() -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(PROTOS)?;
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("semblance.bin");
    fs::write(&descriptors, compiler.encode_file_descriptor_set())?;

    let mut config = Config::new();
    config.bytes([".semblance.v1.Image", ".semblance.v1.PoseFile"]).btree_map(["."]);
    // Bodies stay out of logs: these get a Debug form of our own that shows sizes only.
    config.skip_debug(UNSHOWN);
    tonic_prost_build::configure()
        .compile_well_known_types(false)
        .build_client(true)
        .build_transport(false)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

/// The program finds libtorch where it was built with it, or beside itself in a container (bin/ and lib/).
fn libtorch() {
    if let Ok(folder) = env::var("DEP_SEMBLANCE_TORCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        // Nothing names the CUDA library: it registers itself when it is loaded, and the linker would drop it.
        if Path::new(&folder).join("libtorch_cuda.so").exists() {
            println!("cargo:rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state");
        }
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
}
