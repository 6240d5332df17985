//! Limits of the serving process, set at its start: open files and core dumps.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Raises the limit of open files to the most that the system allows this process. Returns the limit in force; `None` is
/// no limit.
///
/// # Errors
/// When the system refuses; the limit stays as it is.
pub(super) fn raise_open_files() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(getrlimit(Resource::Nofile).current)
}

/// Forbids core dumps of this process: its memory holds embeddings and photos. The limit of the size does not reach a
/// program that the system pipes dumps to, so the process is marked as not dumpable too.
///
/// # Errors
/// When the system refuses.
pub(super) fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn the_limit_of_open_files_is_the_most_that_is_allowed() {
        let raised = raise_open_files().expect("raising to the maximum is allowed");
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
    }

    /// The files of `/proc` belong to root afterwards. The process itself still reads the ones that its gauges need.
    #[test]
    fn a_process_without_core_dumps_still_reads_its_own_figures() {
        forbid_core_dumps().expect("always allowed");
        assert_eq!(dumpable_behavior().expect("known"), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        for figures in
            ["/proc/self/status", "/proc/self/statm", "/proc/self/limits", "/proc/self/stat", "/proc/self/maps"]
        {
            assert!(!fs::read_to_string(figures).expect(figures).is_empty());
        }
        assert!(fs::read_dir("/proc/self/fd").expect("listed").count() > 0);
    }
}
