//! Wrong tokens, counted by the address of the client.
//!
//! A right token is never refused because of others behind the same address, such as those of a proxy: the token is
//! looked up first, and only a wrong one is counted and, past the limit, answered with 429. What guesses cost is
//! bounded as well: the tokens from an address past its limit are looked up a few at a time, which delays right ones
//! from there a little.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A person mistypes a token a few times, and an agent with an old token tries once a second at most.
const MOST_GUESSES: u32 = 60;
/// The time in which guesses of an address are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Most addresses that are remembered; the least used ones are forgotten first. An entry has about 100 bytes.
const MOST_ADDRESSES: u64 = 20_000;
/// Tokens from addresses past their limit that are looked up at a time, which leaves most of the database's
/// connections.
const LOOKUPS: usize = 2;

#[derive(Clone)]
pub(crate) struct Guesses {
    counts: Cache<IpAddr, Arc<Window>>,
    lookups: Arc<Semaphore>,
}

struct Window {
    start: Instant,
    guesses: AtomicU32,
}

impl Default for Guesses {
    fn default() -> Self {
        let counts = Cache::builder().max_capacity(MOST_ADDRESSES).time_to_live(WINDOW).build();
        Self { counts, lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Guesses {
    /// Waits until a token from this address may be looked up: at once, unless the address is past its limit.
    pub(crate) async fn admit(&self, address: IpAddr) -> Option<SemaphorePermit<'_>> {
        let window = self.counts.get(&client(address))?;
        let is_past = window.guesses.load(Ordering::Relaxed) >= MOST_GUESSES;
        // The semaphore is never closed.
        if is_past { self.lookups.acquire().await.ok() } else { None }
    }

    /// Counts a wrong token. Past the limit, returns the time after which the address may try again.
    pub(crate) fn count(&self, address: IpAddr) -> Option<Duration> {
        let new = || Arc::new(Window { start: Instant::now(), guesses: AtomicU32::new(0) });
        let window = self.counts.get_with(client(address), new);
        let before = window.guesses.fetch_add(1, Ordering::Relaxed);
        (before >= MOST_GUESSES).then(|| WINDOW.saturating_sub(window.start.elapsed()))
    }
}

/// The network of the client: one client of IPv6 has at least 2^64 addresses.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_limit_of_its_own() {
        let guesses = Guesses::default();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        for _ in 0..MOST_GUESSES {
            assert_eq!(guesses.count(one), None);
        }
        assert!(guesses.count(one).is_some_and(|wait| wait <= WINDOW));
        assert_eq!(guesses.count(other), None);
    }

    #[test]
    fn a_network_of_ipv6_and_an_address_of_ipv4_is_one_client() {
        let client = |text: &str| client(text.parse().unwrap()).to_string();
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(client("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
