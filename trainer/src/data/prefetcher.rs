//! A prefetcher makes the next batch in a thread of its own while the model trains on this one.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

/// A thread that makes the value of a key, and then, before it is requested, the value of the key that is expected
/// next.
pub struct Prefetcher<K, V> {
    requests: Option<Sender<K>>,
    values: Receiver<V>,
    /// The expected key whose value the thread makes or has made.
    pending: Option<K>,
    thread: Option<JoinHandle<()>>,
}

impl<K: Copy + PartialEq + Send + 'static, V: Send + 'static> Prefetcher<K, V> {
    /// `make` must depend on its key alone.
    pub fn new(mut make: impl FnMut(K) -> V + Send + 'static) -> Self {
        let (requests, keys) = channel();
        let (out, values) = channel();
        let work = move || {
            for key in keys {
                if out.send(make(key)).is_err() {
                    return;
                }
            }
        };
        Self { requests: Some(requests), values, pending: None, thread: Some(thread::spawn(work)) }
    }

    /// Returns the value of `key`. The thread then makes the value of `next`.
    ///
    /// # Panics
    /// This panics with the panic of `make`, if it panicked.
    pub fn get(&mut self, key: K, next: Option<K>) -> V {
        match self.pending.take() {
            Some(pending) if pending == key => {}
            Some(_) => {
                self.receive();
                self.request(key);
            }
            None => self.request(key),
        }
        let value = self.receive();
        if let Some(next) = next {
            self.request(next);
            self.pending = Some(next);
        }
        value
    }

    fn request(&mut self, key: K) {
        // If the thread has ended, `receive` finds out why.
        let _ = self.requests.as_ref().map(|requests| requests.send(key));
    }

    fn receive(&mut self) -> V {
        if let Ok(value) = self.values.recv() {
            return value;
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => unreachable!("the thread ends when its requests end, or in a panic"),
        }
    }
}

impl<K, V> Drop for Prefetcher<K, V> {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic matters only to a request for its value, and there is none any more.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_request_gets_the_value_of_its_key_even_if_another_was_expected() {
        let made = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&made);
        let mut prefetcher = Prefetcher::new(move |key: u64| {
            log.lock().unwrap().push(key);
            key * 10
        });
        let requests = [(0, Some(1)), (1, Some(2)), (7, Some(8)), (8, None), (9, Some(10))];
        assert!(requests.iter().all(|&(key, next)| prefetcher.get(key, next) == key * 10));
        drop(prefetcher);
        assert_eq!(
            *made.lock().unwrap(),
            [0, 1, 2, 7, 8, 9, 10],
            "each value is made once, that of the wrong guess too"
        );
    }

    #[test]
    #[should_panic(expected = "no such row")]
    fn a_panic_reaches_the_request() {
        Prefetcher::new(|_: u64| -> u64 { panic!("no such row") }).get(3, None);
    }
}
