//! Processes documents on all cores and returns the results in order.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::DataError;
use super::corpus::{Document, Documents};

/// Bytes of text in one batch. A batch takes some tens of milliseconds, so that threads rarely wait for each other and
/// progress is smooth.
const BATCH_BYTES: usize = 1 << 20;
/// Number of batches that may wait before and after each worker.
const WAITING: usize = 2;

/// Runs a function on batches of `documents` on every core, and calls `consume` with the results in the order of the
/// documents. One thread reads and decompresses; `worker` makes the function of each other thread. The first error ends
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
        // Batch n went to worker n modulo the number of workers, so receiving from them in turn gives the results in
        // order. A closed channel belongs to the first worker without a batch: no results follow.
        for result in results.iter().cycle().map_while(|worker| worker.recv().ok()) {
            consume(result?)?;
        }
        // This ends the workers, and thereby the reader if it is still reading.
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

/// Sends batches of documents to the workers in turn. A closed channel means that no more results are needed.
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
