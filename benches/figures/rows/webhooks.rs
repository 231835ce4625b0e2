//! Webhooks accepted durably into the inbox, beside a bare handler that only checks the signature: how many
//! a second, and how long the slowest of a hundred takes, by the size of the body and by the number of
//! senders. No pipeline names their repository: what is measured is the inbox, with the handling that goes
//! on behind it on the same machine. In the end all of them are there and handled, or there is no figure.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use windlass::store::sqlite::Sqlite;
use windlass::store::{DeliveryFilter, DeliveryStatus, Inbox};

use super::Row;
use crate::bench::{Bench, wait_for};
use crate::hook::{Hooks, SECRET};
use crate::load::{Answers, Load, Until};
use crate::measure::{Unit, in_turns, percentile};
use crate::peers::bare::Bare;
use crate::peers::buildbot;
use crate::report::{Bound, Case};
use crate::server::Server;

pub const ROW: Row = Row { name: "webhooks", what: "webhooks accepted durably", measure };

const SIZES: [usize; 4] = [1, 8, 64, 512];
const SENDERS: [usize; 4] = [1, 8, 64, 512];

/// That which the goals are about: KB, and senders.
const JUDGED: (usize, usize) = (8, 64);

/// How long one of a round sends.
const TIME: Duration = Duration::from_millis(1_200);

/// The rate that is asked for.
const RATE: f64 = 5_000.0;

/// Requests that are sent at that rate.
const OFFERED: u64 = 15_000;

/// Pipelines of other repositories, which each webhook is compared with.
const PIPELINES: usize = 10;

/// The server, the handler beside it, and what was sent so far.
struct Both {
    data: TempDir,
    ours: Server,
    bare: Bare,
    series: Cell<u32>,
    accepted: Cell<u64>,
}

/// What a round of ours came to.
struct Round {
    answers: Answers,
    /// From the first that was sent to when the last was handled.
    handled_after: Duration,
}

fn measure(bench: &Bench) -> Vec<Case> {
    let both = Both::start(bench);
    let mut cases = Vec::new();
    for senders in SENDERS {
        cases.extend(both.saturate(bench, JUDGED.0, senders));
    }
    cases.push(both.offer());
    // Last those that leave the disk much to do, which is none of what comes after.
    for size in SIZES.into_iter().filter(|size| *size != JUDGED.0) {
        cases.extend(both.saturate(bench, size, JUDGED.1));
    }
    both.all_are_there();
    cases
}

impl Both {
    fn start(bench: &Bench) -> Self {
        let data = bench.directory();
        let settings = "github: { webhook_secrets: [{ env: GITHUB_WEBHOOK_SECRET }] }\n";
        std::fs::write(data.path().join("windlass.yaml"), settings).expect("the settings");
        let pipelines = data.path().join("pipelines");
        std::fs::create_dir(&pipelines).expect("a directory");
        for n in 0..PIPELINES {
            let text = format!(
                "name: service-{n}\nsource: {{ github: acme/service-{n} }}\non: {{ push: {{}} }}\n\
                 stages:\n  build: {{ steps: [{{ run: make }}] }}\n"
            );
            std::fs::write(pipelines.join(format!("service-{n}.yaml")), text).expect("a pipeline");
        }
        let ours = Server::start_with(data.path(), |command| {
            command.arg("--pipelines").arg(&pipelines).env("GITHUB_WEBHOOK_SECRET", SECRET);
        });
        Self { data, ours, bare: Bare::start(), series: Cell::new(0), accepted: Cell::new(0) }
    }

    fn send(&self, to: SocketAddr, size: usize, senders: usize, until: Until) -> Answers {
        self.series.set(self.series.get() + 1);
        let hooks = Hooks::new(to, size * 1024, self.series.get());
        let request = |number, request: &mut Vec<u8>| hooks.write(number, request);
        let mut answers = Load { to, senders, keep_alive: true, request: &request }.run(until);
        assert_eq!(answers.failed, 0, "{:?}", answers.first_failure);
        answers.latencies.sort_by(f64::total_cmp);
        answers
    }

    /// Sends to ours, and waits until it has nothing to do any more.
    fn ours(&self, size: usize, senders: usize, until: Until) -> Round {
        let begun = Instant::now();
        let answers = self.send(self.ours.address(), size, senders, until);
        self.accepted.set(self.accepted.get() + answers.latencies.len() as u64);
        let list = "/api/v1/deliveries?status=pending&limit=1";
        let none = || self.ours.get(list).contains(r#""deliveries":[]"#).then_some(());
        wait_for("the end of the inbox", Duration::from_secs(60), none);
        Round { answers, handled_after: begun.elapsed() }
    }

    /// As many as are taken, one after the other from each sender.
    fn saturate(&self, bench: &Bench, size: usize, senders: usize) -> Vec<Case> {
        let judged = (size, senders) == JUDGED;
        let rounds = if judged { bench.rounds.min(3) } else { 1 };
        let until = || Until::Elapsed(TIME);
        let (mut slow, mut slow_bare, mut handled, mut busy) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
        let mut one = || {
            let Round { mut answers, handled_after } = self.ours(size, senders, until());
            slow.push(percentile(&mut answers.latencies, 99.0));
            handled.push(answers.latencies.len() as f64 / handled_after.as_secs_f64());
            answers.rate()
        };
        let mut other = || {
            let mut answers = self.send(self.bare.address, size, senders, until());
            slow_bare.push(percentile(&mut answers.latencies, 99.0));
            busy = busy.max(answers.busy);
            answers.rate()
        };
        let [ours, bare] = in_turns(rounds, [&mut one, &mut other]);
        let buildbot = match (size, senders) {
            (8, 1) => bench.buildbot().map(|taken| taken.webhooks[0]),
            (8, 8) => bench.buildbot().map(|taken| taken.webhooks[1]),
            _ => None,
        };
        let of = format!("{size} KB, {senders} senders");
        let rate = Case::new(ROW.name, format!("accepted, {of}"), Unit::PerSecond, &ours).beside(
            "bare handler",
            &ours,
            &bare,
        );
        let worst = Case::new(ROW.name, format!("p99 of these, {of}"), Unit::Seconds, &slow).beside(
            "bare handler",
            &slow,
            &slow_bare,
        );
        let rate = match buildbot {
            Some(theirs) => rate
                .beside(buildbot::NAME, &ours[..1], &[theirs])
                .goal_beside(buildbot::NAME, Bound::AtLeast(100.0)),
            None => rate,
        };
        let mut cases = Vec::new();
        if judged {
            let note = format!("the sender was busy {:.0} % of the time beside the bare handler", busy * 1e2);
            cases.push(
                rate.note(note).goal(Bound::AtLeast(RATE)).goal_beside("bare handler", Bound::AtLeast(0.35)),
            );
            cases.push(worst);
            cases.push(
                Case::new(ROW.name, format!("accepted and handled, {of}"), Unit::PerSecond, &handled)
                    .note("until the last of them was handled"),
            );
        } else {
            cases.extend([rate, worst]);
        }
        if senders == JUDGED.1 {
            let rate = cases.remove(0).growing("accepted", "KB of a body", size as u64);
            cases.insert(0, rate);
        }
        cases
    }

    /// So many a second as the goal says, whether they are answered or not.
    fn offer(&self) -> Case {
        let (size, senders) = JUDGED;
        let Round { mut answers, handled_after } =
            self.ours(size, senders, Until::Paced { count: OFFERED, rate: RATE });
        let behind = handled_after.saturating_sub(Duration::from_secs_f64(OFFERED as f64 / RATE));
        let slow = percentile(&mut answers.latencies, 99.0);
        Case::new(ROW.name, format!("p99 at {RATE} a second, {size} KB"), Unit::Seconds, &[slow])
            .goal(Bound::AtMost(0.010))
            .note(format!("from when each was due; the last was handled {} ms later", behind.as_millis()))
    }

    /// Nothing was lost, and nothing is left to do.
    fn all_are_there(self) {
        drop(self.ours);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let count = runtime.block_on(async {
            let store = Sqlite::open_read_only(self.data.path()).await.expect("a store").expect("a store");
            let all = DeliveryFilter { status: Some(DeliveryStatus::Ignored), limit: Some(u32::MAX) };
            store.deliveries(&all).await.expect("deliveries").len() as u64
        });
        assert_eq!(count, self.accepted.get(), "all that was accepted is there and handled");
    }
}
