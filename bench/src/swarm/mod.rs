//! The clients: one process that is N of them, each with a connection and a
//! `BalanceLoad` stream of its own.
//!
//! One thread and one epoll set, so that the machine's CPUs belong to the
//! server. What it does is told by lines on stdin, what happened goes out as
//! lines on stdout, times as [`crate::clock::now`]:
//!
//! | line in | what it does |
//! |---|---|
//! | `connect N` | connects all clients, at most N of them on the way at once |
//! | `close` | closes every connection; answers `closed` |
//! | `cpu` | answers `cpu <nanoseconds>` of this process so far |
//! | `status` | answers `status <with a list> <connections lost> <streams ended>` |
//! | `sample` | answers `sample <bytes> <entries> <distinct servers>`, of one client's newest list |
//!
//! | line out | when |
//! |---|---|
//! | `ready <first connect> <last list> <list bytes>` | every client has the first list of its connection |
//! | `list <median> <99th percentile> <last> <shortest> <longest>` | every client has one more list: when it came, and its length |

mod client;
mod opening;
mod wire;

pub(crate) use opening::Profile;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lookaside_proto::lb_v1::LoadBalanceResponse;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use prost::Message as _;

use crate::child::say;
use crate::{clock, process};
use client::{Client, News};

/// Clients that lost their connection come back within this time, as a real
/// client's first try does.
const RECONNECT_JITTER: Duration = Duration::from_millis(50);

/// A refused client tries again after this, with the jitter on top. Real ones
/// wait a second, which would spread the storm that is to be measured.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// Read at once from a socket; more than any list.
const READ_BUFFER: usize = 256 << 10;

#[derive(Debug, Args)]
pub(crate) struct SwarmArgs {
    /// How many clients.
    #[arg(long)]
    streams: usize,
    /// Where the server listens.
    #[arg(long)]
    addr: SocketAddr,
    /// The service to ask for.
    #[arg(long)]
    service: String,
    /// Whose HTTP/2 settings.
    #[arg(long, value_enum)]
    profile: Profile,
    /// Connect again when a connection is lost.
    #[arg(long)]
    reconnect: bool,
}

struct Swarm {
    args: SwarmArgs,
    poll: Poll,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    /// Clients to connect, and when, by the monotonic clock.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    at_once: usize,
    on_the_way: usize,
    first_connect: u64,
    with_list: usize,
    lost: usize,
    ended: usize,
    /// When each client got the list that is going around.
    arrivals: Vec<u64>,
    lengths: (usize, usize),
}

/// Runs the clients until stdin ends.
pub(crate) fn run(args: SwarmArgs) -> Result<()> {
    process::raise_open_files(args.streams + 20)?;
    let poll = Poll::new()?;
    let stdin = Token(args.streams);
    poll.registry()
        .register(&mut SourceFd(&0), stdin, Interest::READABLE)
        .context("stdin must be a pipe")?;
    let mut swarm = Swarm {
        clients: (0..args.streams).map(|_| Client::default()).collect(),
        arrivals: Vec::with_capacity(args.streams),
        args,
        poll,
        buffer: vec![0; READ_BUFFER],
        due: BinaryHeap::new(),
        at_once: usize::MAX,
        on_the_way: 0,
        first_connect: 0,
        with_list: 0,
        lost: 0,
        ended: 0,
        lengths: (usize::MAX, 0),
    };
    let mut events = Events::with_capacity(1024);
    loop {
        let pause = swarm.connect_due()?;
        if let Err(error) = swarm.poll.poll(&mut events, pause) {
            if error.kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error.into());
        }
        for event in &events {
            if event.token() == stdin {
                if !swarm.commands()? {
                    return Ok(());
                }
            } else {
                swarm.event(event)?;
            }
        }
    }
}

impl Swarm {
    /// Does what stdin says; false at its end.
    fn commands(&mut self) -> Result<bool> {
        // A command is one short write into the pipe, so one read gets it whole.
        let mut line = [0; 4096];
        let len = std::io::stdin().lock().read(&mut line)?;
        let text = std::str::from_utf8(&line[..len])?;
        for command in text.lines() {
            let words: Vec<&str> = command.split_ascii_whitespace().collect();
            match words[..] {
                ["connect", at_once] => self.connect_all(at_once.parse()?),
                ["close"] => self.close_all()?,
                ["status"] => say(format_args!(
                    "status {} {} {}",
                    self.with_list, self.lost, self.ended
                ))?,
                ["cpu"] => say(format_args!("cpu {}", clock::cpu()))?,
                ["sample"] => self.say_sample()?,
                _ => bail!("the clients do not understand `{command}`"),
            }
        }
        Ok(len > 0)
    }

    fn connect_all(&mut self, at_once: usize) {
        self.at_once = at_once;
        self.first_connect = clock::now();
        let now = self.first_connect;
        self.due
            .extend((0..self.clients.len()).map(|index| Reverse((now, index))));
    }

    fn close_all(&mut self) -> Result<()> {
        for client in &mut self.clients {
            *client = Client::default();
        }
        self.due.clear();
        self.arrivals.clear();
        self.with_list = 0;
        self.on_the_way = 0;
        say(format_args!("closed"))
    }

    fn say_sample(&self) -> Result<()> {
        let list = self.clients.first().and_then(Client::sample);
        let list = list.context("no client has a list")?;
        let response = LoadBalanceResponse::decode(list)?;
        let Some(LoadBalanceResponseType::ServerList(servers)) =
            response.load_balance_response_type
        else {
            bail!("the newest message is no server list: {response:?}");
        };
        let mut distinct: Vec<_> = servers.servers.iter().collect();
        distinct.sort_by_key(|server| (&server.ip_address, server.port));
        distinct.dedup_by_key(|server| (&server.ip_address, server.port));
        say(format_args!(
            "sample {} {} {}",
            list.len(),
            servers.servers.len(),
            distinct.len()
        ))
    }

    /// Connects those whose time has come; says how long until the next.
    fn connect_due(&mut self) -> Result<Option<Duration>> {
        let now = clock::now();
        while let Some(Reverse((at, index))) = self.due.peek().copied() {
            if self.on_the_way >= self.at_once {
                return Ok(None);
            }
            if at > now {
                // A millisecond is epoll's resolution; wake after, not before.
                let pause = Duration::from_nanos(at - now) + Duration::from_millis(1);
                return Ok(Some(pause));
            }
            self.due.pop();
            self.on_the_way += 1;
            let client = &mut self.clients[index];
            client.connect(&self.args, index, self.poll.registry())?;
        }
        Ok(None)
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        let Token(index) = event.token();
        let client = &mut self.clients[index];
        let held = client.lists;
        let mut lengths = self.lengths;
        let news = client.event(event, &self.args, &mut self.buffer, |len| {
            lengths = (lengths.0.min(len), lengths.1.max(len));
        })?;
        self.lengths = lengths;
        let lists = client.lists;
        if held == 0 && lists > 0 {
            self.on_the_way -= 1;
            self.with_list += 1;
            if self.with_list == self.clients.len() {
                self.ready()?;
            }
        } else if lists > held {
            // One change goes around at a time; a client that gets two lists
            // of it would be counted for another one.
            for _ in held..lists {
                self.arrivals.push(clock::now());
            }
            if self.arrivals.len() == self.clients.len() {
                self.everybody_has_it()?;
            }
        }
        match news {
            News::Open => {}
            News::Refused => self.again(index, lists, REFUSED_PAUSE),
            News::Lost => {
                self.lost += 1;
                self.again(index, lists, Duration::ZERO);
            }
            News::Ended => {
                self.ended += 1;
                self.again(index, lists, Duration::ZERO);
            }
        }
        Ok(())
    }

    /// Client `index`, which had this many lists, has no connection now.
    fn again(&mut self, index: usize, lists: usize, pause: Duration) {
        if lists > 0 {
            if self.with_list == self.clients.len() {
                self.first_connect = clock::now();
                self.arrivals.clear();
                self.lengths = (usize::MAX, 0);
            }
            self.with_list -= 1;
        } else {
            self.on_the_way -= 1;
        }
        if self.args.reconnect {
            let jitter = RECONNECT_JITTER.mul_f64(fastrand::f64());
            let at = u64::try_from((pause + jitter).as_nanos()).unwrap_or(u64::MAX);
            self.due.push(Reverse((clock::now() + at, index)));
        }
    }

    fn ready(&mut self) -> Result<()> {
        let now = clock::now();
        let longest = self.lengths.1;
        self.lengths = (usize::MAX, 0);
        say(format_args!("ready {} {now} {longest}", self.first_connect))
    }

    fn everybody_has_it(&mut self) -> Result<()> {
        let mut times = std::mem::take(&mut self.arrivals);
        times.sort_unstable();
        let rank = |share: f64| {
            let rank = (share * times.len() as f64).ceil() as usize;
            times[rank.clamp(1, times.len()) - 1]
        };
        let (shortest, longest) = self.lengths;
        say(format_args!(
            "list {} {} {} {shortest} {longest}",
            rank(0.5),
            rank(0.99),
            rank(1.0)
        ))?;
        times.clear();
        self.arrivals = times;
        self.lengths = (usize::MAX, 0);
        Ok(())
    }
}
