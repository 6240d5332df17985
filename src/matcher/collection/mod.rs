//! The state that this process keeps of one open collection, one file per owner: the log position, the scans that wait,
//! the enrolls that wait, the calibrations. It never reads the store by itself, but for the active calibrations.

pub(crate) mod active_calibrations;
pub(crate) mod collection_handle;
pub(crate) mod compute_pool;
pub(crate) mod group_commit;
pub(crate) mod log_progress;
pub(crate) mod rehearsals;
pub(crate) mod scan_batch;
pub(crate) mod scans;
