//! Name servers, asked as glibc asks them: in their order, and the next one only
//! when one is silent, fails or refuses. One that was silent may still answer
//! while others are asked: the first answer counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use tokio::time::{Instant, sleep_until};

/// The least time that a server has before the next one is asked.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
/// For how long a server that was silent gets no more than [`MIN_TIMEOUT`], if
/// there are others.
const SILENCE: Duration = Duration::from_secs(60);

/// The name servers of one client, and how patient it is with them.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
    /// How long the first server has before the next one is asked.
    pub(super) timeout: Duration,
    /// How often each server is asked; at least 1.
    pub(super) attempts: usize,
    /// Whether each query begins with another server.
    pub(super) rotate: bool,
    queries: AtomicUsize,
}

#[derive(Debug)]
struct Server {
    addr: SocketAddr,
    /// When it last took longer than it had.
    silent: Mutex<Option<Instant>>,
}

/// Why no server answered.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// What each server did last, in the order they were asked.
    by_server: Vec<(SocketAddr, Failure)>,
}

#[derive(Debug)]
enum Failure {
    Silent(Duration),
    Error(NetError),
}

impl Servers {
    /// These servers, with glibc's defaults.
    pub(super) fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let server = |addr| Server {
            addr,
            silent: Mutex::default(),
        };
        Self {
            servers: addresses.into_iter().map(server).collect(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            queries: AtomicUsize::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.addr).collect()
    }

    /// The longest time until [`Servers::ask`] gives up.
    pub(super) fn total(&self) -> Duration {
        let round: Duration = (0..self.servers.len()).map(|turn| self.share(turn)).sum();
        round.saturating_mul(u32::try_from(self.attempts).unwrap_or(u32::MAX))
    }

    /// Asks by `query`, which answers or fails. An answer may be that there is
    /// nothing.
    ///
    /// # Errors
    /// What each server did, if none answers.
    pub(super) async fn ask<T, F>(&self, query: impl Fn(SocketAddr) -> F) -> Result<T, Failures>
    where
        F: Future<Output = Result<T, NetError>>,
    {
        let count = self.servers.len();
        let first = match self.rotate {
            true => self.queries.fetch_add(1, Ordering::Relaxed),
            false => 0,
        };
        let mut failures = Failures::default();
        let mut under_way = FuturesUnordered::new();
        let turns = (0..self.attempts).flat_map(|_| 0..count);
        'turns: for (number, turn) in turns.enumerate() {
            let server = &self.servers[first.wrapping_add(turn) % count];
            let asked = query(server.addr);
            under_way.push(async move { (number, server, asked.await) });
            let patience = self.patience(turn, server);
            let due = Instant::now() + patience;
            loop {
                tokio::select! {
                    Some((of, server, result)) = under_way.next() => match result {
                        Ok(answer) => {
                            if of == number {
                                server.is_silent(false);
                            }
                            return Ok(answer);
                        }
                        Err(error) => {
                            failures.note(server.addr, Failure::Error(error));
                            if of == number {
                                continue 'turns;
                            }
                        }
                    },
                    () = sleep_until(due) => {
                        server.is_silent(true);
                        failures.note(server.addr, Failure::Silent(patience));
                        continue 'turns;
                    }
                }
            }
        }
        Err(failures)
    }

    /// How long the server of this turn has, as glibc reckons.
    fn share(&self, turn: usize) -> Duration {
        let factor = 1_u32.checked_shl(u32::try_from(turn).unwrap_or(u32::MAX));
        let share = self.timeout.saturating_mul(factor.unwrap_or(u32::MAX));
        let count = if turn == 0 { 1 } else { self.servers.len() };
        let share = share / u32::try_from(count).unwrap_or(u32::MAX).max(1);
        share.max(MIN_TIMEOUT)
    }

    fn patience(&self, turn: usize, server: &Server) -> Duration {
        match self.servers.len() > 1 && server.was_silent() {
            true => MIN_TIMEOUT,
            false => self.share(turn),
        }
    }
}

impl Server {
    fn was_silent(&self) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.is_some_and(|since| since.elapsed() < SILENCE)
    }

    fn is_silent(&self, silent: bool) {
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = silent.then(Instant::now);
    }
}

impl Failures {
    fn note(&mut self, addr: SocketAddr, failure: Failure) {
        match self.by_server.iter_mut().find(|(known, _)| *known == addr) {
            Some((_, last)) => *last = failure,
            None => self.by_server.push((addr, failure)),
        }
    }

    /// Whether a server had this to say.
    pub(super) fn has(&self, code: ResponseCode) -> bool {
        self.by_server.iter().any(|(_, failure)| {
            matches!(failure, Failure::Error(NetError::Dns(DnsError::ResponseCode(said)))
                if *said == code)
        })
    }
}

impl std::fmt::Display for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [(_, only)] = &self.by_server[..] {
            return write!(f, "{only}");
        }
        for (i, (addr, failure)) in self.by_server.iter().enumerate() {
            let sep = if i == 0 { "" } else { "; " };
            write!(f, "{sep}{addr}: {failure}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(after) => write!(f, "no answer within {after:?}"),
            Self::Error(NetError::Dns(DnsError::ResponseCode(code))) => write!(f, "{code}"),
            // hickory keeps the reason to itself.
            Self::Error(NetError::NoConnections) => {
                f.write_str("no connection: refused, or no route to it")
            }
            Self::Error(error) => write!(f, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// What a server does, and after how many seconds.
    type Plan = (f64, Result<&'static str, ResponseCode>);

    const NEVER: f64 = 1e6;

    fn servers(count: u8) -> Servers {
        Servers::new((1..=count).map(|n| SocketAddr::from(([10, 0, 0, n], 53))))
    }

    /// Asks servers that do as planned; what came of it, and after how many seconds.
    async fn ask(servers: &Servers, plans: &[Plan]) -> (Result<&'static str, String>, f64) {
        let begun = Instant::now();
        let plan = |addr: SocketAddr| match addr.ip() {
            std::net::IpAddr::V4(ip) => plans[usize::from(ip.octets()[3]) - 1],
            std::net::IpAddr::V6(ip) => panic!("{ip}"),
        };
        let query = |addr| async move {
            let (after, result) = plan(addr);
            sleep(Duration::from_secs_f64(after)).await;
            result.map_err(|code| NetError::Dns(DnsError::ResponseCode(code)))
        };
        let result = servers.ask(query).await.map_err(|error| error.to_string());
        let took = begun.elapsed().as_secs_f64();
        (result, (took * 100.0).round() / 100.0)
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_server_is_not_asked_while_the_first_answers() {
        let servers = servers(2);
        for _ in 0..20 {
            let answer = ask(&servers, &[(4.5, Ok("first")), (0.0, Ok("second"))]).await;
            assert_eq!(answer, (Ok("first"), 4.5));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_or_refuses_is_followed_by_the_next_at_once() {
        for code in [
            ResponseCode::ServFail,
            ResponseCode::Refused,
            ResponseCode::NotImp,
        ] {
            let answer = ask(&servers(2), &[(0.1, Err(code)), (0.1, Ok("second"))]).await;
            assert_eq!(answer, (Ok("second"), 0.2), "{code:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_followed_by_the_next_after_the_timeout() {
        let servers = servers(2);
        let plans = [(NEVER, Ok("first")), (0.1, Ok("second"))];
        assert_eq!(ask(&servers, &plans).await, (Ok("second"), 5.1));
        // It is known to be silent then; a minute later it gets another chance.
        assert_eq!(ask(&servers, &plans).await, (Ok("second"), 1.1));
        sleep(SILENCE).await;
        assert_eq!(ask(&servers, &plans).await, (Ok("second"), 5.1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_of_the_first_server_counts() {
        let late = [(6.0, Ok("first")), (NEVER, Ok("second"))];
        assert_eq!(ask(&servers(2), &late).await, (Ok("first"), 6.0));
        let alone = [(9.0, Ok("first"))];
        assert_eq!(ask(&servers(1), &alone).await, (Ok("first"), 9.0));
        // Also when the one behind it fails meanwhile.
        let failing = [(6.0, Ok("first")), (0.0, Err(ResponseCode::ServFail))];
        assert_eq!(ask(&servers(2), &failing).await, (Ok("first"), 6.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_of_zero_is_one_second() {
        let mut servers = servers(2);
        servers.timeout = Duration::ZERO;
        let plans = [(NEVER, Ok("first")), (0.5, Ok("second"))];
        assert_eq!(ask(&servers, &plans).await, (Ok("second"), 1.5));
        assert_eq!(servers.total(), Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn every_server_is_asked_as_often_as_attempts_say_and_named_in_the_error() {
        let (answer, took) = ask(
            &servers(2),
            &[(NEVER, Ok("")), (0.0, Err(ResponseCode::Refused))],
        )
        .await;
        let error = answer.unwrap_err();
        assert!(error.contains("10.0.0.1:53: no answer within"), "{error}");
        assert!(error.contains("10.0.0.2:53: Query Refused"), "{error}");
        // The second attempt knows that the first server is silent.
        assert_eq!(took, 6.0);
        let (alone, took) = ask(&servers(1), &[(NEVER, Ok(""))]).await;
        assert_eq!(alone.unwrap_err(), "no answer within 5s");
        assert_eq!(took, 10.0);
    }

    #[tokio::test(start_paused = true)]
    async fn each_query_begins_with_another_server_if_that_is_wanted() {
        let mut servers = servers(2);
        servers.rotate = true;
        let plans = [(0.0, Ok("first")), (0.0, Ok("second"))];
        assert_eq!(ask(&servers, &plans).await.0, Ok("first"));
        assert_eq!(ask(&servers, &plans).await.0, Ok("second"));
        assert_eq!(ask(&servers, &plans).await.0, Ok("first"));
    }
}
