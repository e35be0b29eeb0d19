//! The next batch is made while the model works on this one.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

/// A thread that makes the value of a key, and that of the key that is likely to be asked for next before it is.
pub struct Ahead<K, V> {
    asked: Option<Sender<K>>,
    made: Receiver<V>,
    /// What the thread makes, or has made, without having been asked for it yet.
    pending: Option<K>,
    thread: Option<JoinHandle<()>>,
}

impl<K: Copy + PartialEq + Send + 'static, V: Send + 'static> Ahead<K, V> {
    /// `make` must depend on its key alone.
    pub fn new(mut make: impl FnMut(K) -> V + Send + 'static) -> Self {
        let (asked, keys) = channel();
        let (out, made) = channel();
        let work = move || {
            for key in keys {
                if out.send(make(key)).is_err() {
                    return;
                }
            }
        };
        Self { asked: Some(asked), made, pending: None, thread: Some(thread::spawn(work)) }
    }

    /// The value of `key`; that of `next` is made from now on.
    ///
    /// # Panics
    /// As `make` did.
    pub fn get(&mut self, key: K, next: Option<K>) -> V {
        match self.pending.take() {
            Some(pending) if pending == key => {}
            Some(_) => {
                self.receive();
                self.ask(key);
            }
            None => self.ask(key),
        }
        let value = self.receive();
        if let Some(next) = next {
            self.ask(next);
            self.pending = Some(next);
        }
        value
    }

    fn ask(&mut self, key: K) {
        // Where the thread has ended, receiving says why.
        let _ = self.asked.as_ref().map(|asked| asked.send(key));
    }

    fn receive(&mut self) -> V {
        if let Ok(value) = self.made.recv() {
            return value;
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => unreachable!("the thread ends with its questions, or in a panic"),
        }
    }
}

impl<K, V> Drop for Ahead<K, V> {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            // A panic was met when its value was asked for; where it was not, nothing is lost.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn every_value_is_that_of_its_key_whatever_was_expected() {
        let made = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&made);
        let mut ahead = Ahead::new(move |key: u64| {
            log.lock().unwrap().push(key);
            key * 10
        });
        let asked = [(0, Some(1)), (1, Some(2)), (7, Some(8)), (8, None), (9, Some(10))];
        assert!(asked.iter().all(|&(key, next)| ahead.get(key, next) == key * 10));
        drop(ahead);
        assert_eq!(*made.lock().unwrap(), [0, 1, 2, 7, 8, 9, 10], "each once, the wrong guess too");
    }

    #[test]
    #[should_panic(expected = "no such row")]
    fn a_panic_comes_through() {
        Ahead::new(|_: u64| -> u64 { panic!("no such row") }).get(3, None);
    }
}
