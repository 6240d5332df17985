//! Where tests find the real weights and the real labelled inputs, on machines that have them.

use std::path::{Path, PathBuf};

/// The data folder: `SEMBLANCE_TEST_DATA`, or `../shared/data` beside the project. A test that needs it and gets `None`
/// says so and passes: the project builds and tests without it.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "tests have no configuration and no log")]
pub(crate) fn folder() -> Option<PathBuf> {
    let given = std::env::var_os("SEMBLANCE_TEST_DATA").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    if folder.join("MANIFEST.md").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no test data at {}", folder.display());
    None
}
