//! Slows down the guessing of passwords.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Guesses at one name from one network that cost no wait. The wait doubles with each further one, up to [`LONGEST`].
const FREE_PER_PAIR: u32 = 5;

/// Guesses from one network that cost no wait: several people may share it.
const FREE_PER_NETWORK: u32 = 30;

/// Guesses at one name from anywhere that cost no wait. The wait for more stays short, since a stranger could cause it.
const FREE_PER_NAME: u32 = 50;

/// Longest wait for a network.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Longest wait for a name.
const LONGEST_FOR_NAME: Duration = Duration::from_secs(30);

/// One guess is forgotten in each such time.
const FORGET_ONE: Duration = Duration::from_secs(2 * 60);

/// Most entries of each table.
const MOST: usize = 10_000;

/// Counts the wrong passwords of each name and of each network.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    pairs: HashMap<(String, IpAddr), Failures>,
    networks: HashMap<IpAddr, Failures>,
    names: HashMap<String, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    /// Number of guesses at the time of the last one, without what was forgotten.
    number: f64,
    last: Instant,
}

impl Failures {
    /// Number of guesses that are not forgotten.
    fn now(&self, now: Instant) -> f64 {
        let forgotten = now.saturating_duration_since(self.last).div_duration_f64(FORGET_ONE);
        (self.number - forgotten).max(0.0)
    }

    fn until(&self, free: u32, longest: Duration, now: Instant) -> Option<Instant> {
        // A guess of a moment ago counts as a whole one.
        let over = (self.now(now) + 0.01).floor() - f64::from(free);
        let wait = 2_f64.powf(over).min(longest.as_secs_f64());
        (over >= 0.0).then(|| self.last + Duration::from_secs_f64(wait))
    }
}

impl Throttle {
    /// Counts an attempt before its password is checked, so that attempts at the same time all count. Returns how long to wait if there
    /// were too many.
    pub(crate) fn begin(&self, name: &str, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        let pair = (name.to_owned(), network);
        let of_pair = tables
            .pairs
            .get(&pair)
            .and_then(|guesses| guesses.until(FREE_PER_PAIR, LONGEST, now));
        let of_network = tables.networks.get(&network);
        let of_network = of_network.and_then(|guesses| guesses.until(FREE_PER_NETWORK, LONGEST, now));
        let of_name = tables.names.get(name);
        let of_name = of_name.and_then(|guesses| guesses.until(FREE_PER_NAME, LONGEST_FOR_NAME, now));
        if let Some(until) = of_pair.max(of_network).max(of_name).filter(|until| *until > now) {
            return Err(until - now);
        }
        count(&mut tables.pairs, pair, now);
        count(&mut tables.networks, network, now);
        count(&mut tables.names, name.to_owned(), now);
        Ok(())
    }

    /// Takes an attempt back that was right.
    pub(crate) fn succeeded(&self, name: &str, address: Option<IpAddr>) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        tables.pairs.remove(&(name.to_owned(), network));
        take_back(&mut tables.networks, &network);
        take_back(&mut tables.names, name);
    }

    /// Takes an attempt back that could not be checked.
    pub(crate) fn unchecked(&self, name: &str, address: Option<IpAddr>) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        take_back(&mut tables.pairs, &(name.to_owned(), network));
        take_back(&mut tables.networks, &network);
        take_back(&mut tables.names, name);
    }
}

/// One holder of IPv6 addresses has at least a network of 64 bits. Clients without a known address count as one network.
fn network(address: Option<IpAddr>) -> IpAddr {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(address)) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        Some(address) => address,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn count<K: Eq + Hash + Clone>(table: &mut HashMap<K, Failures>, key: K, now: Instant) {
    if table.len() >= MOST && !table.contains_key(&key) {
        make_room(table, now);
    }
    let guesses = table.entry(key).or_insert(Failures { number: 0.0, last: now });
    guesses.number = guesses.now(now) + 1.0;
    guesses.last = now;
}

/// Drops what is forgotten, and if that is not enough the quarter with the fewest and oldest guesses.
fn make_room<K: Eq + Hash + Clone>(table: &mut HashMap<K, Failures>, now: Instant) {
    table.retain(|_, guesses| guesses.now(now) > 0.0);
    if table.len() < MOST {
        return;
    }
    let mut by_weight: Vec<(f64, Instant, K)> = table
        .iter()
        .map(|(key, guesses)| (guesses.now(now), guesses.last, key.clone()))
        .collect();
    let quarter = by_weight.len() / 4;
    by_weight.select_nth_unstable_by(quarter, |one, other| {
        one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
    });
    for (_, _, key) in by_weight.into_iter().take(quarter + 1) {
        table.remove(&key);
    }
}

fn take_back<K, Q>(table: &mut HashMap<K, Failures>, key: &Q)
where
    K: Eq + Hash + std::borrow::Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    if let Some(guesses) = table.get_mut(key) {
        guesses.number = (guesses.number - 1.0).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([127, 0, 0, n]))
    }

    #[test]
    fn guesses_from_one_network_become_slower_and_slower() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            throttle.begin("ann", address(1), start).unwrap();
        }
        assert_eq!(throttle.begin("ann", address(1), start), Err(Duration::from_secs(1)));
        throttle.begin("bob", address(1), start).unwrap();
        let later = start + Duration::from_secs(1);
        throttle.begin("ann", address(1), later).unwrap();
        assert_eq!(throttle.begin("ann", address(1), later), Err(Duration::from_secs(2)));
        throttle.succeeded("ann", address(1));
        throttle.begin("ann", address(1), later).unwrap();
    }

    #[test]
    fn a_stranger_cannot_lock_a_name() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..200 {
            let _ = throttle.begin("ann", address(n), now);
        }
        let wait = throttle.begin("ann", address(250), now).unwrap_err();
        assert!(wait <= LONGEST_FOR_NAME, "{wait:?}");
        assert_eq!(throttle.begin("ann", address(250), now + LONGEST_FOR_NAME), Ok(()));
    }

    #[test]
    fn guesses_from_one_network_at_many_names_become_slower() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let address = |n: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, n, 0, 0, n]));
        for n in 0..30 {
            throttle.begin(&format!("user{n}"), address(n), now).unwrap();
        }
        assert!(throttle.begin("another", address(77), now).is_err());
        let elsewhere = Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, 1]));
        throttle.begin("another", elsewhere, now).unwrap();
        // Unknown addresses count as one.
        for n in 0..30 {
            throttle.begin(&format!("user{n}"), None, now).unwrap();
        }
        assert!(throttle.begin("another", None, now).is_err());
    }

    #[test]
    fn typing_errors_of_an_office_are_forgotten() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        // Each minute someone signs in; every second time the first attempt is wrong.
        for n in 0..500_u32 {
            let name = format!("user{}", n % 20);
            if n % 2 == 0 {
                throttle.begin(&name, address(1), now).unwrap();
            }
            throttle.begin(&name, address(1), now).unwrap();
            throttle.succeeded(&name, address(1));
            now += Duration::from_secs(60);
            if n % 10 == 0 {
                now += Duration::from_secs(8 * 60);
            }
        }
    }

    #[test]
    fn attempts_that_were_not_checked_do_not_count() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..100 {
            throttle.begin("ann", address(1), now).unwrap();
            throttle.unchecked("ann", address(1));
        }
    }

    #[test]
    fn the_memory_is_bounded_and_what_is_under_attack_is_remembered() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        for _ in 0..200 {
            if let Err(wait) = throttle.begin("ann", address(1), now) {
                assert!(wait <= LONGEST);
                now += wait;
            }
        }
        let _ = throttle.begin("ann", address(1), now);
        for n in 0..2 * MOST {
            let from = IpAddr::V6(((n as u128) << 64 | 1 << 120).into());
            throttle.begin(&n.to_string(), Some(from), now).unwrap();
        }
        let tables = throttle.0.lock().unwrap();
        assert!(tables.names.len() <= MOST && tables.pairs.len() <= MOST && tables.networks.len() <= MOST);
        drop(tables);
        assert!(throttle.begin("ann", address(1), now).is_err());
    }
}
