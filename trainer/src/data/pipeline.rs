//! Documents through all cores and out again in order.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::DataError;
use super::corpus::{Document, Documents};

/// Text in one piece of work: some tens of milliseconds of it, so that threads meet seldom and progress is smooth.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait in front of and behind each worker.
const WAITING: usize = 2;

/// Runs `work` on batches of `documents` on every core and hands the results to `consume` in the order of the
/// documents. One thread reads and decompresses; `worker` makes the state of each of the others. The first error ends
/// everything.
pub(super) fn in_order<T, W>(
    documents: Documents,
    worker: impl Fn() -> W + Sync,
    mut consume: impl FnMut(T) -> Result<(), DataError>,
) -> Result<(), DataError>
where
    T: Send,
    W: FnMut(Vec<Document>) -> Result<T, DataError>,
{
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let (mut batches, mut results) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (batch_in, batch_out) = sync_channel(WAITING);
            let (result_in, result_out) = sync_channel(WAITING);
            batches.push(batch_in);
            results.push(result_out);
            let worker = &worker;
            scope.spawn(move || apply(worker(), batch_out, result_in));
        }
        let reader = scope.spawn(move || deal(documents, &batches));
        // Batch n went to worker n modulo their number, so asking round gives the results in order. A channel that has
        // closed belongs to the first worker without a batch: there is nothing behind it.
        for result in results.iter().cycle().map_while(|worker| worker.recv().ok()) {
            consume(result?)?;
        }
        // Ends the workers, and so the reader, where it is not at the end already.
        drop(results);
        match reader.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn apply<T>(
    mut work: impl FnMut(Vec<Document>) -> Result<T, DataError>,
    batches: Receiver<Vec<Document>>,
    results: SyncSender<Result<T, DataError>>,
) {
    for batch in batches {
        if results.send(work(batch)).is_err() {
            return;
        }
    }
}

/// Deals the documents out to the workers in turn. A closed channel means that the result is no longer wanted.
fn deal(mut documents: Documents, workers: &[SyncSender<Vec<Document>>]) -> Result<(), DataError> {
    for worker in workers.iter().cycle() {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let Some(document) = documents.next().transpose()? else { break };
            bytes += document.text.len();
            batch.push(document);
        }
        if batch.is_empty() || worker.send(batch).is_err() {
            break;
        }
    }
    Ok(())
}
