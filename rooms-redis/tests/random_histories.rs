//! Pages that come and go while nodes crash, and Redis and the network fail in any order: nothing is missing without a word,
//! and while Redis has the whole log nobody is told to fetch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "../../rooms-core/tests/support/page.rs"]
mod page;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "../../rooms-core/tests/support/rig.rs"]
mod rig;
#[path = "../../rooms-core/tests/support/talk.rs"]
mod talk;

use std::{ops::Range, sync::mpsc, time::Duration};

use rooms_core::{BroadcastError, Receipt, bus::BusError};
use tokio::{
    join,
    task::JoinHandle,
    time::{Instant, sleep},
};

use dice::Dice;
use faults::{Stored, fault};
use fleet::key;
use page::{Page, Truth};
use process::Process;
use proxy::{Link, Proxy};
use redis_server::{PATIENCE, RedisServer, size};

/// Rooms whose log has everything, and whose log is trimmed all the time.
const WHOLE: &str = "log:42";
const TRIMMED: &str = "short:42";

const PAGES: usize = 6;

/// Faults in one run, and how often somebody acts during one and after it.
const FAULTS: usize = 12;
const ACTS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_a_page_misses_nothing_without_a_word() {
    for seed in 0..size(2, 50) {
        println!("run {seed}");
        run(seed, TRIMMED, Stored::MayGo).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_has_the_whole_log_no_page_is_told_to_fetch() {
    for seed in 0..size(2, 50) {
        println!("run {seed}");
        let pages = run(seed, WHOLE, Stored::Stays).await;
        let told: Vec<_> = pages.iter().map(|page| page.resyncs).collect();
        assert_eq!(told, [0; PAGES]);
    }
}

async fn run(seed: u64, room: &'static str, stored: Stored) -> Vec<Page> {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let proxies = [Proxy::before(redis.port).await, Proxy::before(redis.port).await];
    let mut fleet = Fleet::over(&proxies, room, Dice(seed));
    let mut dice = Dice(seed + 1_000);
    for _ in 0..FAULTS {
        join!(fault(&mut dice, &mut redis, &proxies, 1_200, stored), fleet.act());
        fleet.act().await;
    }
    proxies.iter().for_each(|proxy| proxy.set(Link::Open));
    fleet.all_have_the_last().await;
    fleet.pages
}

/// Nodes that crash, and pages that come back to another one or to what follows it.
struct Fleet<'a> {
    proxies: &'a [Proxy; 2],
    processes: [Process; 2],
    room: &'static str,
    pages: Vec<Page>,
    /// The process that each page was with last.
    homes: [usize; PAGES],
    truth: Truth,
    number: u64,
    dice: Dice,
}

impl<'a> Fleet<'a> {
    fn over(proxies: &'a [Proxy; 2], room: &'static str, dice: Dice) -> Self {
        let processes = proxies.each_ref().map(Process::start);
        let pages = (0..PAGES).map(|_| Page::default()).collect();
        let truth = Truth { epochs_follow: true, ..Truth::default() };
        Self { proxies, processes, room, pages, homes: [0; PAGES], truth, number: 0, dice }
    }

    async fn act(&mut self) {
        let crashes_at = self.dice.below(3 * ACTS as u64) as usize;
        for at in 0..ACTS {
            for _ in 0..self.dice.below(4) {
                let process = self.dice.below(2) as usize;
                self.begin(process, 1).end(&mut self.truth).await;
            }
            if at == crashes_at {
                self.crash().await;
            }
            let page = self.dice.below(PAGES as u64) as usize;
            match self.dice.below(3) {
                _ if self.pages[page].talk.is_none() => self.join(page),
                0 => self.pages[page].go(),
                _ if self.pages[page].is_out() => self.join(page),
                1 => self.pages[page].leave(self.room),
                _ => {}
            }
            sleep(self.dice.millis(30)).await;
            self.look();
        }
    }

    /// Comes back, to some node or on the connection that it has.
    fn join(&mut self, page: usize) {
        let newest = self.dice.below(3) as usize;
        if self.pages[page].is_out() {
            return self.pages[page].join_again(self.room, newest);
        }
        self.homes[page] = self.dice.below(2) as usize;
        let Self { processes, pages, homes, room, .. } = self;
        processes[homes[page]].inside(|rooms| pages[page].join(rooms, room, newest));
    }

    /// A process ends in the middle of what it publishes, and another one begins; all its pages come back, to either.
    async fn crash(&mut self) {
        let process = self.dice.below(2) as usize;
        let count = self.dice.below(4);
        let begun = self.begin(process, count);
        sleep(self.dice.millis(3)).await;
        // Nothing that it says at its end is heard. Redis sees that its connections end, or is left in the dark as by a machine
        // that has lost its power.
        let proxy = &self.proxies[process];
        if self.dice.below(2) == 0 {
            proxy.cut();
        } else {
            proxy.set_present(Link::Stalled);
        }
        self.processes[process] = Process::start(proxy);
        begun.end(&mut self.truth).await;
        for page in 0..PAGES {
            if self.homes[page] == process && self.pages[page].talk.is_some() {
                self.pages[page].look(&self.truth);
                self.pages[page].is_cut_off();
                self.join(page);
            }
        }
    }

    /// Has a process publish so many numbers, one after another.
    fn begin(&mut self, process: usize, count: u64) -> Begun {
        let numbers = self.number + 1..self.number + 1 + count;
        self.number += count;
        let (room, rooms) = (key(self.room), self.processes[process].node.rooms.clone());
        let (tell, told) = mpsc::channel();
        let all = numbers.clone();
        let task = self.processes[process].inside(|_| {
            tokio::spawn(async move {
                for number in all {
                    _ = tell.send(rooms.broadcast(&room, &number).await);
                }
            })
        });
        Begun { numbers, task, told }
    }

    fn look(&mut self) {
        self.pages.iter_mut().for_each(|page| page.look(&self.truth));
    }

    /// Publishes until each page has the last: one that is told to fetch is not given what was published before.
    async fn all_have_the_last(&mut self) {
        let deadline = Instant::now() + 2 * PATIENCE;
        let mut last = None;
        while last.is_none() || !self.pages.iter().all(|page| page.last == last) {
            assert!(Instant::now() < deadline, "some page lacks the last message: {last:?}");
            let published = self.begin(1, 1).end(&mut self.truth).await;
            last = (published == 1).then_some(self.number);
            for page in 0..PAGES {
                if self.pages[page].talk.is_none() || self.pages[page].is_out() {
                    self.join(page);
                }
            }
            sleep(Duration::from_millis(200)).await;
            self.look();
        }
    }
}

/// Numbers that are being published.
struct Begun {
    numbers: Range<u64>,
    task: JoinHandle<()>,
    told: mpsc::Receiver<Result<Receipt, BroadcastError>>,
}

impl Begun {
    /// Waits until their process has done that, or has ended; notes what became of each, and gives how many were published.
    async fn end(mut self, truth: &mut Truth) -> usize {
        let ended = self.task.await;
        let mut published = 0;
        for outcome in self.told.try_iter() {
            let number = self.numbers.next().unwrap();
            match outcome {
                Ok(receipt) => {
                    truth.published.insert(receipt.position.unwrap(), number);
                    published += 1;
                }
                Err(BroadcastError::Bus { source: BusError::Unknown(_), .. }) => _ = truth.perhaps.insert(number),
                Err(_) => {}
            }
        }
        // One was on its way when the process ended; those after it were not begun.
        assert_eq!(ended.is_ok(), self.numbers.is_empty());
        truth.perhaps.extend(self.numbers.next());
        published
    }
}
