//! One connection's part of a run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Mode;
use super::pace::Pace;
use super::requests::{Enqueue, Requests, Wait};
use super::scan::{count, texts};
use super::tally::{Progress, Step, Tally};
use super::wire::Connection;
use crate::cli::CliError;

/// Pause after a failed request, so that a server that refuses is not hammered.
const PAUSE: Duration = Duration::from_millis(10);
/// Failures in a row after which a consumer gives up what is left in the topics.
const FAILURES_MAX: u32 = 100;

/// What one connection does.
pub(super) struct Worker {
    pub(super) index: u32,
    pub(super) mode: Mode,
    pub(super) consumes_only: bool,
    pub(super) batch: usize,
    pub(super) address: SocketAddr,
    pub(super) epoch: Instant,
    pub(super) measured_from: Instant,
    pub(super) requests: Arc<Requests>,
    pub(super) pace: Arc<Pace>,
    pub(super) progress: Arc<Progress>,
    pub(super) counts_only: bool,
}

/// Runs `workers` to their end on this thread.
pub(super) fn run_all(workers: Vec<Worker>) -> Result<Tally, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::failed("cannot start", error))?;
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for worker in workers {
            running.spawn(worker.run());
        }
        let mut tally = Tally::default();
        while let Some(done) = running.join_next().await {
            tally.merge(done.map_err(|error| CliError::failed("a connection's task", error))?);
        }
        Ok(tally)
    })
}

impl Worker {
    async fn run(self) -> Tally {
        let mut session = Session {
            connection: Connection::new(self.address),
            tally: Tally::default(),
            ack: Vec::new(),
            failures: 0,
            worker: &self,
        };
        match self.mode {
            Mode::Enqueue => session.enqueue().await,
            Mode::E2e if self.consumes_only => session.consume().await,
            Mode::E2e => session.cycle().await,
            Mode::Dequeue => session.drain(true).await,
        }
        session.tally
    }
}

struct Session<'a> {
    worker: &'a Worker,
    connection: Connection,
    tally: Tally,
    ack: Vec<u8>,
    failures: u32,
}

impl Session<'_> {
    async fn enqueue(&mut self) {
        let enqueues = self.worker.requests.enqueues(self.worker.index as usize);
        for enqueue in enqueues.iter().cycle() {
            let Some(due) = self.worker.pace.next().await else {
                return;
            };
            self.send(enqueue, due, true).await;
        }
    }

    /// Enqueues, takes out as much, and acks it, over and over; then helps to empty the topics.
    async fn cycle(&mut self) {
        let worker = self.worker;
        let offered = worker.consumers_apart();
        let mut enqueues = worker.requests.enqueues(worker.index as usize);
        let variants = enqueues.len();
        for turn in 0.. {
            let Some(due) = worker.pace.next().await else {
                break;
            };
            let enqueue = &mut enqueues[turn % variants];
            worker.requests.stamp(enqueue, worker.epoch, due);
            let mut sent = self.send(enqueue, due, false).await;
            while sent > 0 && !offered {
                match self.take(worker.index as usize, Wait::Second, false).await {
                    Some(0) | None => break,
                    Some(taken) => sent = sent.saturating_sub(taken),
                }
            }
        }
        if !offered {
            self.drain(false).await;
        }
    }

    /// Takes out and acks until the last turn is taken and nothing comes any more. Consumers are half of
    /// the connections, so their topics are counted by consumers.
    async fn consume(&mut self) {
        let mut topic = (self.worker.index / 2) as usize;
        let mut idle = 0;
        while self.failures < FAILURES_MAX {
            let over = self.worker.pace.is_over();
            match self.take(topic, Wait::Second, false).await {
                Some(0) if over => idle += 1,
                Some(_) => idle = 0,
                None => {}
            }
            if idle >= self.worker.requests.topics() {
                return;
            }
            if over || self.worker.requests.topics() > 1 {
                topic += 1;
            }
        }
    }

    /// Takes out and acks until every topic has been found empty in a row.
    async fn drain(&mut self, paced: bool) {
        let mut topic = self.worker.index as usize;
        let mut empty = 0;
        while empty < self.worker.requests.topics() && self.failures < FAILURES_MAX {
            if paced && self.worker.pace.next().await.is_none() {
                return;
            }
            if self.take(topic, Wait::No, paced).await == Some(0) {
                topic += 1;
                empty += 1;
            } else {
                empty = 0;
            }
        }
    }

    /// Sends an enqueue that was due at `due`; returns how many items were accepted.
    async fn send(&mut self, enqueue: &Enqueue, due: Instant, is_goal: bool) -> usize {
        let worker = self.worker;
        let measured = due >= worker.measured_from;
        let accepted = match self.connection.exchange(&enqueue.bytes).await {
            Ok(answer) if answer.status / 100 == 2 => {
                let now = Instant::now();
                let accepted = match worker.counts_only {
                    true => worker.batch,
                    false => count(answer.body, br#""status":"accepted""#),
                };
                if measured {
                    self.tally.requests += 1;
                    self.tally.rejected += (worker.batch - accepted.min(worker.batch)) as u64;
                    self.tally.latency(Step::Enqueue, now - due);
                    self.tally.last = Some(now);
                }
                Ok(accepted)
            }
            Ok(answer) => Err(problem(answer.status, answer.body)),
            Err(error) => Err(error.to_string()),
        };
        match accepted {
            Ok(accepted) => {
                self.failures = 0;
                if is_goal && measured {
                    self.done(accepted);
                }
                accepted
            }
            Err(code) => {
                self.failed(code).await;
                0
            }
        }
    }

    /// Takes out one batch and acks it; returns how many items came, or none when that failed.
    async fn take(&mut self, topic: usize, wait: Wait, is_drain: bool) -> Option<usize> {
        let worker = self.worker;
        let sent = Instant::now();
        let taken = match self
            .connection
            .exchange(worker.requests.dequeue(topic, wait))
            .await
        {
            Ok(answer) if answer.status / 100 == 2 => {
                let now = Instant::now();
                let leases = texts(answer.body, br#""lease_id":""#);
                let taken = leases.clone().count();
                if taken > 0 {
                    worker.requests.ack(leases, &mut self.ack);
                    if sent >= worker.measured_from {
                        self.tally.requests += 1;
                        self.tally.latency(Step::Dequeue, now - sent);
                    }
                }
                if !is_drain {
                    for payload in texts(answer.body, br#""payload":""#) {
                        match worker.requests.due_us(payload).map(Duration::from_micros) {
                            Some(due) if worker.epoch + due >= worker.measured_from => {
                                let latency = now.saturating_duration_since(worker.epoch + due);
                                self.tally.latency(Step::Delivery, latency);
                            }
                            Some(_) => {}
                            None => self.tally.foreign += 1,
                        }
                    }
                }
                Ok(taken)
            }
            Ok(answer) => Err(problem(answer.status, answer.body)),
            Err(error) => Err(error.to_string()),
        };
        match taken {
            Ok(0) => Some(0),
            Ok(taken) => {
                self.acknowledge().await;
                Some(taken)
            }
            Err(code) => {
                self.failed(code).await;
                None
            }
        }
    }

    /// Sends the ack that was rendered.
    async fn acknowledge(&mut self) {
        let sent = Instant::now();
        let acked = match self.connection.exchange(&self.ack).await {
            Ok(answer) if answer.status / 100 == 2 => Ok(count(answer.body, br#""status":"ok""#)),
            Ok(answer) => Err(problem(answer.status, answer.body)),
            Err(error) => Err(error.to_string()),
        };
        match acked {
            Ok(acked) => {
                self.failures = 0;
                if sent >= self.worker.measured_from {
                    let now = Instant::now();
                    self.tally.requests += 1;
                    self.tally.latency(Step::Ack, now - sent);
                    self.tally.last = Some(now);
                    self.done(acked);
                }
            }
            Err(code) => self.failed(code).await,
        }
    }

    fn done(&mut self, items: usize) {
        self.tally.items += items as u64;
        self.worker
            .progress
            .items
            .fetch_add(items as u64, Ordering::Relaxed);
    }

    async fn failed(&mut self, code: String) {
        self.failures += 1;
        self.tally.error(code);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Worker {
    /// Whether other connections take out what this one hands in.
    fn consumers_apart(&self) -> bool {
        self.pace.is_scheduled()
    }
}

/// A problem answer's status and code.
fn problem(status: u16, body: &[u8]) -> String {
    let code = texts(body, br#""code":""#).next().unwrap_or_default();
    format!("{status} {}", String::from_utf8_lossy(code))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
