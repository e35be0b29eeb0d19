//! How much of everything the server holds at a time. Each number is a constant with its reason, or follows from the
//! number of files that the system lets this process open.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use scheduler::work::Workers;

/// Files that are no connections of clients: those of Postgres (two pools and a listener), logs, the runtime's own, and
/// files of datasets that are read for a registration.
const RESERVED_FILES: u64 = 128;
/// Files that one connection may need: its socket, and the artifact that it reads or writes.
const FILES_OF_A_CONNECTION: u64 = 2;
/// Ten thousand agents with their uploads, and people. More connections would mostly be idle ones of a faulty client.
const MOST_CONNECTIONS: u64 = 16_384;
/// With fewer connections a dashboard and a few agents could not be served at all.
const FEWEST_CONNECTIONS: u64 = 16;

/// Connections beyond the limit that are held at a time to be told so.
pub(crate) const OVERFLOW_CONNECTIONS: usize = 64;
/// Connections that the kernel holds until they are accepted. A thousand agents connect again within a second when a
/// server restarts; the usual 128 would drop most of them.
pub(crate) const BACKLOG: u32 = 4096;
/// Time for the headers of a request, and the longest time that a connection stays open without a request. It is longer
/// than the pause between two syncs of an agent and between two looks of the dashboard.
pub(crate) const HEADER_TIME: Duration = Duration::from_secs(20);
/// The same for a connection beyond the limit, which is in the way of others.
pub(crate) const OVERFLOW_HEADER_TIME: Duration = Duration::from_secs(3);
/// Longest pause within a body that arrives, or within an answer that a client takes.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(30);
/// Time for the body of a request and its answer, up to the answer's headers. Uploads of artifacts have none, because
/// they may be long; [`IDLE_TIME`] ends them.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Largest size of a request's headers in bytes, which is also the size of the buffers of a connection.
pub(crate) const HEADER_BYTES: usize = 32 << 10;
/// Most streams of events at a time. Each holds a connection for as long as its job runs.
pub(crate) const MOST_STREAMS: usize = 2000;

/// Pieces of work of a size that a client chose which run at a time: plans of jobs, long bodies, archives.
const WORK_AT_ONCE: usize = 4;
/// A long report of an agent may have 64 MB, and a few times that while it is read.
const AGENT_WORK_AT_ONCE: usize = 2;
const WORK_WAITING: usize = 64;
/// Time for one piece of such work, below [`REQUEST_TIME`].
pub(crate) const WORK_TIME: Duration = Duration::from_secs(30);
/// A body of at most this many bytes is read within a millisecond, where the request is handled.
pub(crate) const SHORT_BODY: usize = 64 << 10;

/// The workers for what requests ask for, apart from data sets and reports.
pub(crate) fn workers(shutdown: CancellationToken) -> Workers {
    Workers::new("working on requests", WORK_AT_ONCE, WORK_WAITING, shutdown)
}

/// The workers for long reports of agents, such as those of one that was cut off for hours.
pub(crate) fn agent_workers(shutdown: CancellationToken) -> Workers {
    Workers::new("reading reports of agents", AGENT_WORK_AT_ONCE, WORK_WAITING, shutdown)
}

/// Most connections of clients at a time for a process that may open `files` files.
pub(crate) fn connections(files: u64) -> usize {
    let connections = files.saturating_sub(RESERVED_FILES) / FILES_OF_A_CONNECTION;
    usize::try_from(connections.clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS)).unwrap_or(usize::MAX)
}

/// Most streams of events at a time, so that at least half of the connections are left for other requests.
pub(crate) fn streams(connections: usize) -> usize {
    (connections / 2).min(MOST_STREAMS)
}

/// Lets this process open as many files as the system allows it, and returns their number.
pub(crate) fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised; this server takes fewer connections");
            current
        }
    };
    // No limit is written as none.
    now.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_postgres_and_artifacts() {
        assert_eq!(connections(1024), 448);
        assert_eq!(connections(4096), 1984);
        assert_eq!(connections(u64::MAX), MOST_CONNECTIONS as usize);
        assert_eq!(connections(0), FEWEST_CONNECTIONS as usize);
        for files in [1024, 4096, 65_536] {
            assert!(connections(files) as u64 * FILES_OF_A_CONNECTION + RESERVED_FILES <= files);
            assert!(2 * streams(connections(files)) <= connections(files));
        }
    }
}
