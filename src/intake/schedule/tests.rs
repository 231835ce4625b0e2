//! Schedules under a clock that is set, by a server that is started again.

use std::collections::BTreeSet;

use jiff::ToSpan;
use proptest::prelude::*;
use tokio::sync::{Notify, mpsc, watch};

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::config::Settings;
use crate::engine::{Engine, Parts, Slots, Surveyor};
use crate::ids::{CommitSha, RunId};
use crate::run::event::{Origin, Shipment};
use crate::source::Sources;
use crate::store::Inbox;
use crate::store::memory::Memory;

struct NoGit;

#[async_trait::async_trait]
impl Surveyor for NoGit {
    async fn survey(&self, _: &Origin, _: &CommitSha) -> Result<Shipment, String> {
        Err("nothing is surveyed here".to_owned())
    }
}

/// One server after the other on one store, with a clock that is set.
struct World {
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
    catalog: Arc<Catalog>,
    /// What the server remembers.
    schedules: Schedules,
    shared: Shared,
    jobs: mpsc::UnboundedReceiver<Job>,
    /// Every instant that fired, as often as it did.
    fired: Vec<String>,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(on: &str, now: Timestamp) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pipelines = directory.path().join("pipelines");
        std::fs::create_dir(&pipelines).unwrap();
        let text = format!(
            "name: shop\nsource: {{ git: . }}\non: {on}\nstages: {{ say: {{ steps: [{{ run: say }}] }} }}\n"
        );
        std::fs::write(pipelines.join("shop.yaml"), text).unwrap();
        let settings = Arc::new(Settings::default());
        let catalog = Arc::new(Catalog::default().look(Some(&pipelines), settings.clone()));
        assert_eq!(catalog.pipelines().count(), 1);
        let (store, clock) = (Arc::new(Memory::new()), Arc::new(ManualClock::at(now)));
        let engine = Engine::new(Parts {
            data: directory.path().to_owned(),
            store: store.clone(),
            clock: clock.clone(),
            stages: BTreeMap::new(),
            surveyor: Arc::new(NoGit),
            clouds: crate::app::clouds(directory.path()).unwrap().0,
            slots: Slots::new(1),
        });
        let (sender, jobs) = mpsc::unbounded_channel();
        let shared = Shared {
            engine,
            sources: Arc::new(Sources::new(directory.path())),
            clock: clock.clone(),
            pipelines: Some(pipelines),
            settings: watch::channel(settings).0,
            catalog: watch::channel(catalog.clone()).0,
            jobs: sender,
            sooner: Notify::new(),
            settled: watch::channel(0).0,
        };
        let schedules = Schedules::since(now);
        Self { store, clock, catalog, schedules, shared, jobs, fired: Vec::new(), _directory: directory }
    }

    fn next(&self) -> Option<Timestamp> {
        let listed = self.catalog.pipelines().flat_map(|listed| &listed.pipeline.on.schedules);
        listed.filter_map(|schedule| schedule.after(self.clock.now())).min()
    }

    /// The server looks, and starts a run of whatever fires.
    async fn look(&mut self) {
        assert!(self.schedules.look(&self.shared, &self.catalog, self.clock.now()).await);
        while let Ok(job) = self.jobs.try_recv() {
            self.fired.push(job.key.id.clone());
            let run = RunId::new("shop".parse().unwrap(), self.fired.len() as u64);
            let settlement = Settlement { status: DeliveryStatus::Handled, reason: None, runs: vec![run] };
            self.store.settle_delivery(&job.key, settlement).await.unwrap();
        }
    }

    /// So much time passes evenly, and the server wakes at each instant.
    async fn pass(&mut self, time: SignedDuration) -> Result<(), TestCaseError> {
        let end = self.clock.now() + time;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.clock.set(next);
            self.look().await;
            let id = format!("shop@{next}");
            prop_assert_eq!(self.fired.iter().filter(|fired| **fired == id).count(), 1, "{}", id);
        }
        self.clock.set(end);
        Ok(())
    }

    /// Somebody sets the clock, and the server notices.
    async fn jump(&mut self, by: SignedDuration) {
        self.clock.set(self.clock.now() + by);
        self.look().await;
    }

    /// No server runs for a while.
    async fn restart(&mut self, away: SignedDuration) {
        self.clock.set(self.clock.now() + away);
        self.schedules = Schedules::since(self.clock.now());
        self.look().await;
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Pass(i64),
    Jump(i64),
    Restart(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let near = prop_oneof![-90..90_i64, -4 * 3600..4 * 3600_i64, -400 * 86_400..400 * 86_400_i64];
    prop_oneof![
        3 => (0..4_000_i64).prop_map(Happens::Pass),
        2 => near.clone().prop_map(Happens::Jump),
        1 => near.prop_map(Happens::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the clock is set and whenever the server is started again: each instant that it comes to while
    /// it runs has fired by then, and none ever fires twice.
    #[test]
    fn an_instant_fires_when_it_comes_and_once(
        crons in prop::sample::subsequence(&["*/7 * * * *", "30 2 * * *", "0 * * * MON", "15 4 1 * *"][..], 1..4),
        // Around both changes of the clocks of Berlin.
        start in prop_oneof![1_774_656_000..1_774_830_000_i64, 1_792_800_000..1_792_974_000_i64],
        all in prop::collection::vec(happens(), 1..14),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let schedules: Vec<String> =
                crons.iter().map(|cron| format!("{{ cron: '{cron}', timezone: Europe/Berlin }}")).collect();
            let on = format!("{{ schedule: [{}] }}", schedules.join(", "));
            let mut world = World::new(&on, Timestamp::from_second(start).unwrap());
            world.look().await;
            for one in all {
                match one {
                    Happens::Pass(seconds) => world.pass(SignedDuration::from_secs(seconds)).await?,
                    Happens::Jump(seconds) => world.jump(SignedDuration::from_secs(seconds)).await,
                    Happens::Restart(seconds) => world.restart(SignedDuration::from_secs(seconds)).await,
                }
            }
            let once: BTreeSet<&String> = world.fired.iter().collect();
            prop_assert_eq!(once.len(), world.fired.len(), "twice: {:?}", world.fired);
            Ok(())
        })?;
    }
}

/// 02:30 in Berlin is skipped on 2026-03-29 and comes twice on 2026-10-25.
#[tokio::test]
async fn what_a_change_of_the_clocks_skips_or_repeats_fires_once() {
    let on = "{ schedule: { cron: '30 2 * * *', timezone: Europe/Berlin } }";
    for (day, fires) in [("2026-03-29", "2026-03-29T01:00:00Z"), ("2026-10-25", "2026-10-25T00:30:00Z")] {
        let midnight = format!("{day}T00:00:00+00:00[UTC]").parse::<jiff::Zoned>().unwrap();
        let mut world = World::new(on, midnight.timestamp());
        world.look().await;
        // Also for somebody who looks every ten minutes only.
        for step in 1..=18 {
            let now = midnight.checked_add((step * 10).minutes()).unwrap().timestamp();
            let next = world.next().filter(|next| *next <= now);
            for at in next.into_iter().chain([now]) {
                world.clock.set(at);
                world.look().await;
            }
        }
        assert_eq!(world.fired, [format!("shop@{fires}")], "{day}");
        // The hour comes again, as somebody sets the clock back.
        world.jump(SignedDuration::from_hours(-3)).await;
        world.pass(SignedDuration::from_hours(3)).await.unwrap();
        assert_eq!(world.fired.len(), 1);
        assert!(world.store.deliveries(&Default::default()).await.unwrap().len() == 1);
    }
}
