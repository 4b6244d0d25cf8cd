//! Fetches pages and images politely: a client that says who it is, obeys `robots.txt`, asks each host at a limited
//! rate over all processes, waits when it is told to, and keeps what it has received.
//!
//! - An answer is cached on disk ([`FetchPolicy::fresh_days`]); an older one is confirmed by a conditional request.
//! - Each redirect is a request of its own: its address, `robots.txt` and turn are checked again.
//! - Names are resolved and checked before a connection is made to the checked address; addresses outside the public
//!   internet are refused, unless [`FetchPolicy::allow_hosts`] names the host. Proxies are not used, since they would
//!   connect to addresses that nobody has checked.
//! - Bytes (also after decompression), headers, redirects and time of an answer are limited.

mod address;
mod cache;
mod exchange;
mod failure;
mod hosts;
mod policy;
mod retry;
mod robots;
mod sniff;
#[cfg(test)]
mod tests;

pub use cache::CacheSize;
pub use failure::{FailureReason, FetchFailure};
pub use policy::FetchPolicy;
pub use sniff::Content;

use address::Address;
use burgess_base::network::{self, Lookup};
use burgess_base::{Error, Result};
use cache::{Cache, CachedAnswer, seconds_now};
use exchange::{Answer, Ask, Exchange};
use hosts::{Hosts, Turn};
use retry::{Backoff, retry_after};
use robots::Robots;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Largest age of the rules of `robots.txt`.
const ROBOTS_AGE: Duration = Duration::from_hours(24);
/// Time for which a server whose `robots.txt` fails is not asked again.
const ROBOTS_RETRY: Duration = Duration::from_mins(5);

/// What a request wants besides its address.
#[derive(Debug, Clone, Copy)]
pub struct FetchOptions {
    /// Value of the header `Accept`.
    pub accept: &'static str,
    /// Largest size of the body in bytes; the policy's if it is smaller.
    pub max_bytes: u64,
    /// Whether `robots.txt` is obeyed, if the policy obeys it. An interface for programs (`api.php`) is not subject to
    /// it: its operator's rules for programs are the rate limit, the contact and `maxlag`.
    pub robots: bool,
    /// Says whether a body with status 200 means that the server is busy, so that it is asked again later.
    pub is_busy: Option<fn(&[u8]) -> bool>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { accept: "*/*", max_bytes: u64::MAX, robots: true, is_busy: None }
    }
}

/// A fetched file.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The address after redirects.
    pub url: String,
    /// The header `Content-Type`, which is only a hint: see [`Fetched::content`].
    pub content_type: Option<String>,
    /// The body, decompressed.
    pub bytes: Vec<u8>,
    /// Whether the body is from the cache, with or without confirmation by the server.
    pub cached: bool,
}

impl Fetched {
    /// Returns what the body is, by its first bytes.
    pub fn content(&self) -> Content {
        Content::of(&self.bytes)
    }
}

/// Counts of what a client did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchCounts {
    /// Requests that were sent, with those for `robots.txt`.
    pub requests: u64,
    /// Requests among them that repeat one that failed.
    pub retries: u64,
    /// Bytes of bodies that were received, decompressed.
    pub received: u64,
    /// Answers from the cache without a request.
    pub from_cache: u64,
    /// Cached answers that the server confirmed.
    pub confirmed: u64,
    /// Cached bodies that could not be used, because they were damaged or larger than wanted, and were fetched again.
    pub damaged: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    retries: AtomicU64,
    received: AtomicU64,
    from_cache: AtomicU64,
    confirmed: AtomicU64,
    damaged: AtomicU64,
}

/// Rules of an origin, and when they were asked for.
type KnownRobots = (Arc<Robots>, Instant);

/// Fetches addresses as a [`FetchPolicy`] says. It may be shared by threads; processes share the rate limits and the
/// cache by using the same directory.
#[derive(Debug)]
pub struct Client {
    policy: FetchPolicy,
    cache: Cache,
    hosts: Hosts,
    exchange: Exchange,
    backoff: Backoff,
    robots: Mutex<HashMap<String, KnownRobots>>,
    counters: Counters,
}

impl Client {
    /// Builds a client whose cache and rate limits lie in `dir`, which is created.
    ///
    /// # Errors
    /// The policy is wrong, or the directory cannot be created.
    pub fn new(policy: &FetchPolicy, dir: &Path) -> Result<Self> {
        Self::with_lookup(policy, dir, network::system_lookup())
    }

    /// Builds a client with its own look-up of names.
    fn with_lookup(policy: &FetchPolicy, dir: &Path, lookup: Arc<Lookup>) -> Result<Self> {
        policy.check().map_err(|e| e.context("reading the options of fetching"))?;
        let seconds = Duration::from_secs_f64;
        Ok(Self {
            cache: Cache::new(dir.to_path_buf()),
            hosts: Hosts::open(dir.join("hosts"))?,
            exchange: Exchange::new(policy, lookup)?,
            backoff: Backoff::new(seconds(policy.backoff_seconds), seconds(policy.longest_wait_seconds), policy.seed),
            robots: Mutex::new(HashMap::new()),
            counters: Counters::default(),
            policy: policy.clone(),
        })
    }

    /// Returns the policy.
    pub fn policy(&self) -> &FetchPolicy {
        &self.policy
    }

    /// Checks, without a request, that an address could be asked: before long work.
    ///
    /// # Errors
    /// It is no address of a web server, or a contact is needed.
    pub fn check(&self, url: &str) -> Result<()> {
        let address = Address::parse(url).map_err(|f| f.error)?;
        match self.policy.offline {
            true => Ok(()),
            false => self.policy.check_contact_for(&address.host, address.port),
        }
    }

    /// Fetches an address with the default [`FetchOptions`].
    ///
    /// # Errors
    /// See [`FailureReason`].
    pub fn get(&self, url: &str) -> Result<Fetched, FetchFailure> {
        self.get_with(url, &FetchOptions::default())
    }

    /// Fetches an address, from the cache if it has a fresh answer. Redirects are followed.
    ///
    /// # Errors
    /// See [`FailureReason`].
    pub fn get_with(&self, url: &str, options: &FetchOptions) -> Result<Fetched, FetchFailure> {
        let age = Duration::from_secs_f64(self.policy.fresh_days * 86_400.0);
        let wanted = Wanted { options: *options, age, cut: false };
        self.follow(url, &wanted).map_err(|failure| FetchFailure { url: url.to_string(), ..failure })
    }

    /// Returns what the client did so far.
    pub fn counts(&self) -> FetchCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        FetchCounts {
            requests: get(&c.requests),
            retries: get(&c.retries),
            received: get(&c.received),
            from_cache: get(&c.from_cache),
            confirmed: get(&c.confirmed),
            damaged: get(&c.damaged),
        }
    }

    /// Counts the files of the cache.
    ///
    /// # Errors
    /// The cache directory cannot be read.
    pub fn cache_size(&self) -> Result<CacheSize> {
        self.cache.size()
    }

    /// Fetches an address and follows its redirects.
    fn follow(&self, url: &str, wanted: &Wanted) -> Result<Fetched, FetchFailure> {
        let mut address = Address::parse(url)?;
        for _ in 0..=self.policy.max_redirects {
            match self.hop(&address, wanted)? {
                Hop::Arrived(fetched) => return Ok(fetched),
                Hop::Redirect(target) => address = address.join(&target)?,
            }
        }
        let error = Error::failed(format!("it redirects more than {} times", self.policy.max_redirects));
        Err(FetchFailure::new(FailureReason::Redirects, url, error.hint("open the address in a browser: it is a loop")))
    }

    /// Fetches one address without following its redirect.
    fn hop(&self, address: &Address, wanted: &Wanted) -> Result<Hop, FetchFailure> {
        let most = wanted.options.max_bytes.min(self.policy.max_bytes);
        let cached = self.cache.answer(address.as_str());
        let body = cached.as_ref().filter(|answer| answer.status == 200).and_then(|answer| {
            let body = self.cache.body(answer, most);
            self.counters.damaged.fetch_add(u64::from(body.is_none()), Ordering::Relaxed);
            body
        });
        if let Some(answer) = &cached
            && (answer.is_fresh(wanted.age) || self.policy.offline)
            && (answer.status != 200 || body.is_some())
        {
            self.counters.from_cache.fetch_add(1, Ordering::Relaxed);
            return self.arrive(address, answer, body.unwrap_or_default(), true);
        }
        if self.policy.offline {
            let error =
                Error::failed("it is not in the cache, and `offline` is set").hint("fetch it without `offline`");
            return Err(FetchFailure::new(FailureReason::Offline, address.as_str(), error));
        }
        if let Err(e) = self.policy.check_contact_for(&address.host, address.port) {
            return Err(FetchFailure::new(FailureReason::NoContact, address.as_str(), e));
        }
        let delay = self.check_robots(address, &wanted.options)?;
        let known = cached.as_ref().filter(|_| body.is_some());
        let ask = Ask {
            accept: wanted.options.accept,
            etag: known.and_then(|answer| answer.etag.as_deref()),
            last_modified: known.and_then(|answer| answer.last_modified.as_deref()),
            most,
            cut: wanted.cut,
        };
        let answer = self.ask(address, &ask, delay, wanted.options.is_busy)?;
        let cache_failed = |e: Error| FetchFailure::new(FailureReason::Cache, address.as_str(), e);
        if let (304, Some(known), Some(body)) = (answer.status, known, body) {
            self.counters.confirmed.fetch_add(1, Ordering::Relaxed);
            let mut known = CachedAnswer { time: seconds_now(), ..known.clone() };
            self.cache.store(&mut known, None).map_err(cache_failed)?;
            return self.arrive(address, &known, body, true);
        }
        let mut found = CachedAnswer {
            url: address.as_str().to_string(),
            status: answer.status,
            location: answer.location,
            content_type: answer.content_type,
            etag: answer.etag,
            last_modified: answer.last_modified,
            body: None,
            time: seconds_now(),
        };
        // Refusals (401, 403, …) may end when the contact or the rate changes, so they are asked again next time.
        match found.status {
            200 => self.cache.store(&mut found, Some(&answer.body)).map_err(cache_failed)?,
            301 | 302 | 303 | 307 | 308 | 404 | 410 => self.cache.store(&mut found, None).map_err(cache_failed)?,
            _ => {}
        }
        self.arrive(address, &found, answer.body, false)
    }

    /// Makes the result of a final answer.
    fn arrive(
        &self,
        address: &Address,
        answer: &CachedAnswer,
        bytes: Vec<u8>,
        cached: bool,
    ) -> Result<Hop, FetchFailure> {
        let fail = |reason, error: Error| Err(FetchFailure::new(reason, address.as_str(), error));
        let status = answer.status;
        match (status, &answer.location) {
            (200, _) => Ok(Hop::Arrived(Fetched {
                url: address.as_str().to_string(),
                content_type: answer.content_type.clone(),
                bytes,
                cached,
            })),
            (301 | 302 | 303 | 307 | 308, Some(target)) => Ok(Hop::Redirect(target.clone())),
            (301 | 302 | 303 | 307 | 308, None) => {
                fail(FailureReason::Redirects, Error::failed(format!("the server answered {status} without a target")))
            }
            (404 | 410, _) => fail(
                FailureReason::NotFound,
                Error::failed(format!("the server answered {status}")).hint("check the address"),
            ),
            (400..500, _) => fail(
                FailureReason::Refused,
                Error::failed(format!("the server answered {status}"))
                    .hint("check that `contact` is set and the address needs no account"),
            ),
            _ => fail(
                FailureReason::BadAnswer,
                Error::failed(format!("the server answered {status}, expected 200, a redirect or an error")),
            ),
        }
    }

    /// Sends a request in its turn, again after failures that may pass.
    fn ask(
        &self,
        address: &Address,
        ask: &Ask<'_>,
        delay: Duration,
        is_busy: Option<fn(&[u8]) -> bool>,
    ) -> Result<Answer, FetchFailure> {
        let host = format!("{}:{}", address.host, address.port);
        let longest = Duration::from_secs_f64(self.policy.longest_wait_seconds);
        let interval = delay.max(Duration::from_secs_f64(1.0 / self.policy.requests_per_second));
        let cache_failed = |e: Error| FetchFailure::new(FailureReason::Cache, address.as_str(), e);
        let mut failed = 0;
        loop {
            if let Turn::TooFar(left) = self.hosts.wait_for_turn(&host, interval, longest).map_err(cache_failed)? {
                return Err(too_many(address, left, longest));
            }
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            self.counters.retries.fetch_add(u64::from(failed > 0), Ordering::Relaxed);
            let outcome = self.exchange.get(address, ask);
            failed += 1;
            let (failure, hold) = match outcome {
                Ok(answer) => {
                    self.counters.received.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
                    let busy = answer.status == 200 && is_busy.is_some_and(|is_busy| is_busy(&answer.body));
                    let Some(reason) = trouble(answer.status, busy) else { return Ok(answer) };
                    let asked = answer.retry_after.and_then(|value| retry_after(&value, SystemTime::now()));
                    let hold = (reason == FailureReason::TooManyRequests || asked.is_some())
                        .then(|| asked.unwrap_or_else(|| self.backoff.wait(failed)));
                    let what = if busy { "that it is busy".to_string() } else { answer.status.to_string() };
                    let error = Error::failed(format!("the server answered {what} to {failed} of {failed} tries"))
                        .hint("try again later: finished pages and images are kept");
                    (FetchFailure::new(reason, address.as_str(), error), hold)
                }
                Err(failure) if failure.reason.is_transient() => (failure, None),
                Err(failure) => return Err(failure),
            };
            if let Some(wait) = hold {
                self.hosts.hold(&host, wait).map_err(cache_failed)?;
                if wait > longest {
                    return Err(too_many(address, wait, longest));
                }
            }
            if failed >= self.policy.tries {
                return Err(failure);
            }
            if hold.is_none() {
                std::thread::sleep(self.backoff.wait(failed));
            }
        }
    }

    /// Checks an address by the rules of its origin, and returns the time between requests that they ask for.
    fn check_robots(&self, address: &Address, options: &FetchOptions) -> Result<Duration, FetchFailure> {
        if !self.policy.robots || !options.robots {
            return Ok(Duration::ZERO);
        }
        let refused = |reason, why: String| {
            let error = Error::failed(why).hint("leave the address out, or ask the operator of the server");
            FetchFailure::new(reason, address.as_str(), error)
        };
        let robots = self.robots_of(address)?;
        robots.check(address.as_str()).map_err(|(reason, why)| refused(reason, why))?;
        let delay = robots.delay().unwrap_or_default();
        match delay.as_secs_f64() <= self.policy.longest_wait_seconds {
            true => Ok(delay),
            false => Err(refused(
                FailureReason::Robots,
                format!("robots.txt asks for {} s between requests, more than `longest_wait_seconds`", delay.as_secs()),
            )),
        }
    }

    fn robots_of(&self, address: &Address) -> Result<Arc<Robots>, FetchFailure> {
        let origin = address.origin();
        let lock = || self.robots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((robots, asked)) = lock().get(&origin) {
            let age = if matches!(**robots, Robots::Nothing(..)) { ROBOTS_RETRY } else { ROBOTS_AGE };
            if asked.elapsed() < age {
                return Ok(robots.clone());
            }
        }
        let robots = Arc::new(self.fetch_robots(address)?);
        lock().insert(origin, (robots.clone(), Instant::now()));
        Ok(robots)
    }

    /// Fetches the rules of an origin, as RFC 9309 says: a file that does not exist allows everything, a server that
    /// fails allows nothing, unless its rules were received before.
    fn fetch_robots(&self, address: &Address) -> Result<Robots, FetchFailure> {
        let own = address.join("/robots.txt")?;
        let options = FetchOptions { accept: "text/plain", max_bytes: robots::MAX_BYTES, robots: false, is_busy: None };
        let wanted = Wanted { options, age: ROBOTS_AGE, cut: true };
        let failure = match self.follow(own.as_str(), &wanted) {
            Ok(file) => return Ok(Robots::parse(&self.policy.agent, &file.bytes)),
            Err(failure) => failure,
        };
        match failure.reason {
            FailureReason::NotFound | FailureReason::Refused | FailureReason::Redirects => return Ok(Robots::All),
            reason if reason.is_fatal() => return Err(failure),
            _ => {}
        }
        let old = self.cache.answer(own.as_str()).filter(|answer| answer.status == 200);
        match old.and_then(|answer| self.cache.body(&answer, robots::MAX_BYTES)) {
            Some(text) => Ok(Robots::parse(&self.policy.agent, &text)),
            None => Ok(Robots::Nothing(failure.reason, failure.error.to_string())),
        }
    }
}

/// A request with its limits.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    options: FetchOptions,
    /// Age below which a cached answer is used without asking.
    age: Duration,
    /// Whether a larger body is cut instead of refused.
    cut: bool,
}

/// The result of one request.
enum Hop {
    Arrived(Fetched),
    Redirect(String),
}

/// Returns the reason why an answer is asked for again; `None` if it is final.
fn trouble(status: u16, busy: bool) -> Option<FailureReason> {
    match status {
        429 => Some(FailureReason::TooManyRequests),
        408 | 425 | 500.. => Some(FailureReason::ServerError),
        _ => busy.then_some(FailureReason::TooManyRequests),
    }
}

/// Makes the failure for a server that asks to wait longer than allowed.
fn too_many(address: &Address, wait: Duration, longest: Duration) -> FetchFailure {
    let (wait, longest) = (wait.as_secs(), longest.as_secs());
    let error = Error::failed(format!("{} asks to wait {wait} s, the longest wait is {longest} s", address.host))
        .hint("start again after this time, or raise `longest_wait_seconds`");
    FetchFailure::new(FailureReason::TooManyRequests, address.as_str(), error)
}
