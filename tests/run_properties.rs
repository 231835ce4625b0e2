//! The fold and `decide`, on generated pipelines and outcomes: every run ends, nothing starts too
//! early or twice, and a journal that is cut short anywhere and gone on with reaches the same end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use windlass::clock::between;
use windlass::ids::{EnvironmentName, PipelineName, RunId};
use windlass::pipeline::model::Kind;
use windlass::run::approval::{Policy, Rules};
use windlass::run::command::{Act, Refusal, carry_out};
use windlass::run::decide::{Asks, Facts, Place, decide, settle, stop_of, timed};
use windlass::run::event::{Actor, Cause, Ending, Failure, Origin, RunEvent, Shipment};
use windlass::run::replay::Selection;
use windlass::run::state::{Hold, Phase, RunState, StepPhase};

/// A pipeline as it is generated.
#[derive(Debug, Clone)]
struct Draft {
    stages: Vec<DraftStage>,
    slots: u32,
    seed: u64,
    reject: bool,
}

#[derive(Debug, Clone)]
struct DraftStage {
    /// Which of the stages before it are needed, as bits.
    needs: u32,
    steps: usize,
    retries: u32,
    environment: Option<bool>,
    condition: Option<usize>,
}

const CONDITIONS: [&str; 4] = ["always()", "failure()", "success()", "run.number == 1"];

fn drafts() -> impl Strategy<Value = Draft> {
    let stage = (
        any::<u32>(),
        1..4usize,
        1..4u32,
        prop::option::weighted(0.3, any::<bool>()),
        prop::option::weighted(0.2, 0..CONDITIONS.len()),
    )
        .prop_map(|(needs, steps, retries, environment, condition)| DraftStage {
            needs,
            steps,
            retries,
            environment,
            condition,
        });
    (prop::collection::vec(stage, 1..9), 1..4u32, any::<u64>(), prop::bool::weighted(0.2))
        .prop_map(|(stages, slots, seed, reject)| Draft { stages, slots, seed, reject })
}

impl Draft {
    fn text(&self) -> String {
        let mut text = "name: generated\nstages:\n".to_owned();
        for (i, stage) in self.stages.iter().enumerate() {
            let needs: Vec<String> =
                (0..i).filter(|n| stage.needs >> n & 1 == 1).map(|n| format!("s{n}")).collect();
            let _ = writeln!(text, "  s{i}:");
            if !needs.is_empty() {
                let _ = writeln!(text, "    needs: [{}]", needs.join(", "));
            }
            let _ = writeln!(text, "    retry: {{ attempts: {}, on: [infrastructure] }}", stage.retries);
            if let Some(manual) = stage.environment {
                let _ = writeln!(text, "    environment: {}", if manual { "manual" } else { "automatic" });
            }
            if let Some(condition) = stage.condition {
                let _ = writeln!(text, "    if: {}", CONDITIONS[condition]);
            }
            let steps: Vec<String> =
                (0..stage.steps).map(|n| format!("{{ name: step {n}, run: 'true' }}")).collect();
            let _ = writeln!(text, "    steps: [{}]", steps.join(", "));
        }
        text
    }
}

/// The world around `decide`, without any of the engine.
struct World<'a> {
    draft: &'a Draft,
    places: BTreeMap<EnvironmentName, Place>,
    now: Timestamp,
    /// What the machine has run so far, whatever the clock was set to.
    ran: Duration,
    /// When what is timed was heard of, as [`windlass::clock::Ages`] keeps it, and how old it was then.
    heard: BTreeMap<(usize, u32, Timestamp), (Duration, Duration)>,
    journal: Vec<(Timestamp, RunEvent)>,
    state: RunState,
    /// Turns the order in which things end.
    turn: u64,
}

impl<'a> World<'a> {
    fn start(draft: &'a Draft) -> Self {
        let origin = Origin::new(draft.text(), "/generated.yaml", Actor::unverified("octocat"));
        let run = RunId::new("generated".parse::<PipelineName>().unwrap(), 1);
        let created = RunEvent::Created { run, origin: Box::new(origin) };
        Self::resume(draft, vec![(Timestamp::UNIX_EPOCH, created)], 0)
    }

    fn resume(draft: &'a Draft, journal: Vec<(Timestamp, RunEvent)>, turn: u64) -> Self {
        let state = RunState::fold(journal.iter().map(|(at, event)| (*at, event))).expect("a legal journal");
        let place = |asks| Place {
            group: "qa".to_owned(),
            asks,
            has_fleet: true,
            held: None,
            rules: Rules::default(),
        };
        let places = BTreeMap::from([
            ("manual".parse().unwrap(), place(Asks::Promotion)),
            ("automatic".parse().unwrap(), place(Asks::Nothing)),
        ]);
        let now = journal.last().map_or(Timestamp::UNIX_EPOCH, |(at, _)| *at);
        let (ran, heard) = (Duration::ZERO, BTreeMap::new());
        Self { draft, places, now, ran, heard, journal, state, turn }
    }

    /// A number that depends on the draft and on `what`, not on the order of things.
    fn fate(&self, what: &str) -> u64 {
        let digest = windlass::ids::Digest::of(format!("{} {what}", self.draft.seed).as_bytes());
        u64::from_str_radix(&digest.as_str()[..12], 16).unwrap()
    }

    fn record(&mut self, event: RunEvent) {
        self.check(&event);
        self.state.apply(self.now, &event).unwrap_or_else(|illegal| panic!("{event:?}: {illegal}"));
        self.journal.push((self.now, event));
    }

    /// What must hold of every event, before it is taken in.
    fn check(&self, event: &RunEvent) {
        let RunEvent::AttemptStarted { stage, .. } = event else { return };
        let i = self.state.pipeline.stages.iter().position(|s| s.name == *stage).unwrap();
        assert_ne!(self.state.stages[i].phase, Phase::Succeeded, "{stage} succeeded and starts again");
        for before in self.state.graph.ancestors(i).iter() {
            assert!(
                self.state.stages[before].phase.is_final(),
                "{stage} starts before what it needs has ended"
            );
        }
        if let Some(environment) = &self.state.pipeline.stages[i].environment {
            let gate = &self.state.gates[environment];
            assert!(gate.hold == Hold::Held || gate.rejected.is_some(), "{stage} starts without its fleet");
            if environment.as_str() == "manual" {
                assert!(gate.promoted.is_some() || gate.rejected.is_some(), "{stage} starts unpromoted");
            }
        }
    }

    fn lasted(&mut self) -> BTreeMap<usize, Duration> {
        let timed: Vec<_> = timed(&self.state).collect();
        let lasted = timed.into_iter().map(|(i, began)| {
            let then = || (self.ran, between(began, self.state.updated_at));
            let name = (i, self.state.attempt_number(i), began);
            let (heard, then) = *self.heard.entry(name).or_insert_with(then);
            (i, then + self.ran - heard)
        });
        lasted.collect()
    }

    /// Decides until there is nothing more to say. Answers after what time to look again.
    fn decide(&mut self) -> Option<Duration> {
        loop {
            let used =
                self.state.running().filter(|i| self.state.pipeline.stages[*i].kind.takes_slot()).count();
            let free_slots = self.draft.slots.saturating_sub(used as u32);
            let lasted = self.lasted();
            let facts = Facts {
                now: self.now,
                lasted: &lasted,
                free_slots,
                slots: self.draft.slots,
                wanting: None,
                places: &self.places,
            };
            let decision = decide(&self.state, &facts);
            let mut more = !decision.events.is_empty();
            for event in decision.events {
                self.record(event);
            }
            for (environment, i) in decision.enter {
                let stage = self.state.pipeline.stages[i].name.clone();
                self.record(RunEvent::EnvironmentEntered { environment, stage });
                more = true;
            }
            for (environment, i) in decision.survey {
                if self.state.gates[&environment].reached.is_none() {
                    let stage = self.state.pipeline.stages[i].name.clone();
                    let shipment = Box::new(Shipment::default());
                    self.record(RunEvent::GateReached { environment, stage, shipment });
                    more = true;
                }
            }
            let running =
                self.state.running().filter(|i| self.state.pipeline.stages[*i].kind.takes_slot()).count();
            assert!(
                running <= self.draft.slots.max(used as u32) as usize,
                "more attempts run than there are slots"
            );
            if !more {
                assert_eq!(decision.wake_at, None, "nothing here waits for the calendar");
                // What began just now is heard of now.
                self.lasted();
                return decision.wake_in;
            }
        }
    }

    /// The machine runs on for so long.
    fn pass(&mut self, time: Duration) {
        self.ran += time;
        self.now = self.now.saturating_add(time).unwrap();
    }

    /// Lets one thing happen in the world. Answers whether there was anything to happen.
    fn happen(&mut self, wake_in: Option<Duration>) -> bool {
        let running: Vec<usize> = self.state.running().collect();
        self.turn = self.turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if !running.is_empty() {
            let i = running[(self.turn >> 33) as usize % running.len()];
            self.work(i);
            return true;
        }
        let asked =
            self.state.gates.iter().find(|(_, gate)| {
                gate.reached.is_some() && gate.promoted.is_none() && gate.rejected.is_none()
            });
        if let Some((environment, _)) = asked {
            let environment = environment.clone();
            let act = match self.draft.reject {
                true => Act::Reject { environment, reason: "not today".to_owned() },
                false => Act::Promote { environment },
            };
            for event in carry_out(&self.state, &act, &Actor::unverified("octocat"), &Policy::default())
                .expect("an open gate")
            {
                self.record(event);
            }
            return true;
        }
        match wake_in {
            Some(time) => {
                self.pass(time);
                true
            }
            None => false,
        }
    }

    /// The next thing that the driver of stage `i` reports.
    fn work(&mut self, i: usize) {
        let stage = self.state.pipeline.stages[i].name.clone();
        let attempt = self.state.attempt_number(i);
        let Kind::Script(script) = &self.state.pipeline.stages[i].kind else { unreachable!() };
        let steps = script.steps.clone();
        let state = self.state.stages[i].attempts.last().unwrap();
        let done = state.steps.len();
        let last_runs = state.steps.last().is_some_and(|step| step.phase == StepPhase::Running);
        let fate = self.fate(&format!("{stage} {attempt}")) % 10;
        let failure = match (stop_of(&self.state, i), fate) {
            (Some(_), _) => Some(Failure::new(Cause::Cancelled, "stopped")),
            (None, 0) => Some(Failure::task("exit code 1")),
            (None, 1..=3) => Some(Failure::infrastructure("the runner was lost")),
            _ => None,
        };
        let step = done as u32;
        if let Some(failure) = failure {
            self.record(settle(&self.state, i, attempt, Err(failure)));
        } else if last_runs {
            let (exit_code, log_bytes, result) = (Some(0), 0, serde_json::Value::Null);
            self.record(RunEvent::StepSucceeded {
                stage: stage.clone(),
                attempt,
                step,
                exit_code,
                log_bytes,
                result,
            });
            if done < steps.len() {
                let name = steps[done].name.clone();
                self.record(RunEvent::StepStarted { stage, attempt, step: step + 1, name });
            } else {
                self.record(settle(&self.state, i, attempt, Ok(Box::default())));
            }
        } else if done < steps.len() {
            // The process was cut off between a success and the next intent.
            let name = steps[done].name.clone();
            self.record(RunEvent::StepStarted { stage, attempt, step: step + 1, name });
        } else {
            self.record(settle(&self.state, i, attempt, Ok(Box::default())));
        }
    }

    fn run_to_end(&mut self) {
        for _ in 0..10_000 {
            let wake_in = self.decide();
            if self.state.ending.is_some() {
                return;
            }
            assert!(
                self.happen(wake_in),
                "nothing can happen, and the run has not ended: {:?}",
                self.state.stages
            );
        }
        panic!("the run does not end");
    }

    /// Replays something, if it is allowed. What is not asked for and has succeeded must not start again.
    fn replay(&mut self, pick: u64) {
        let stages = &self.state.pipeline.stages;
        let stage = stages[(pick >> 2) as usize % stages.len()].name.clone();
        let selection = match pick % 4 {
            0 => Selection::Stage(stage),
            1 => Selection::From(stage),
            _ => Selection::Failed,
        };
        let act = Act::Replay { selection, edits: Vec::new() };
        match carry_out(&self.state, &act, &Actor::unverified("octocat"), &Policy::default()) {
            Ok(events) => events.into_iter().for_each(|event| self.record(event)),
            Err(Refusal::Replay(_)) => {}
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// How often each stage that has succeeded was tried.
    fn succeeded(&self) -> Vec<Option<usize>> {
        let stages = self.state.stages.iter();
        stages.map(|stage| (stage.phase == Phase::Succeeded).then_some(stage.attempts.len())).collect()
    }

    /// What counts of the end: how each stage ended, after how many attempts.
    fn end(&self) -> (Option<Ending>, Vec<(Phase, usize)>) {
        let stages = self.state.stages.iter().map(|stage| (stage.phase.clone(), stage.attempts.len()));
        (self.state.ending, stages.collect())
    }
}

/// What `decide` looks at.
fn indexes(state: &RunState) -> (Vec<usize>, Vec<usize>, Vec<usize>, Vec<usize>, usize, bool) {
    let plain = state.plain().iter().copied().collect();
    let (ready, running) = (state.ready().collect(), state.running().collect());
    (plain, ready, running, state.retrying().collect(), state.open(), state.has_failed())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_its_journal_folds_to_the_same_state(draft in drafts()) {
        let mut world = World::start(&draft);
        world.run_to_end();
        let folded = RunState::fold(world.journal.iter().map(|(at, event)| (*at, event))).unwrap();
        prop_assert_eq!(format!("{:?}", folded.stages), format!("{:?}", world.state.stages));
        prop_assert_eq!(folded.ending, world.state.ending);
        let failed = world.state.stages.iter().any(|stage| stage.phase == Phase::Failed);
        prop_assert_eq!(world.state.ending == Some(Ending::Failed), failed);
    }

    #[test]
    fn a_journal_cut_anywhere_and_gone_on_with_reaches_the_same_end(draft in drafts(), turn: u64) {
        let mut whole = World::start(&draft);
        whole.run_to_end();
        for cut in 1..whole.journal.len() {
            let mut resumed = World::resume(&draft, whole.journal[..cut].to_vec(), turn);
            resumed.run_to_end();
            prop_assert_eq!(resumed.end(), whole.end(), "cut at {}", cut);
        }
    }

    /// Whatever the clock is set to meanwhile, and whenever another process goes on with it: every stage
    /// ends as it would have, nothing is timed out before its time, and no pause is longer than it is.
    #[test]
    fn a_run_ends_as_it_would_have_however_the_clock_is_set(
        draft in drafts(),
        jumps in prop::collection::vec((0..8usize, -9_000_000_000..9_000_000_000_i64, any::<bool>()), 0..12),
    ) {
        let mut whole = World::start(&draft);
        whole.run_to_end();
        let mut world = World::start(&draft);
        for (after, seconds, again) in jumps {
            for _ in 0..after {
                let wake_in = world.decide();
                prop_assert!(wake_in.is_none_or(|left| left <= Duration::from_secs(3600)), "{:?}", wake_in);
                if world.state.ending.is_none() {
                    prop_assert!(world.happen(wake_in));
                }
            }
            world.now = Timestamp::from_second(1_700_000_000 + seconds).unwrap();
            // A process that hears of an attempt for the first time has nothing but the journal: where the clock
            // was set between two of its events, it takes the attempt for older than it is.
            let known = |(_, began)| between(began, world.state.updated_at) < Duration::from_secs(1800);
            if again && timed(&world.state).all(known) {
                let now = world.now;
                world = World::resume(&draft, world.journal, world.turn);
                world.now = now;
                world.lasted();
            }
        }
        world.run_to_end();
        prop_assert_eq!(world.end(), whole.end());
        let timed_out = |(_, event): &(Timestamp, RunEvent)| matches!(event, RunEvent::TimeoutReached { .. });
        prop_assert!(!world.journal.iter().any(timed_out), "a timeout of an hour passed in no time");
    }

    #[test]
    fn a_run_that_is_cancelled_anywhere_ends_cancelled(draft in drafts(), at in 0..60usize) {
        let mut world = World::start(&draft);
        for turn in 0..10_000 {
            let wake_in = world.decide();
            if world.state.ending.is_some() {
                break;
            }
            if turn == at {
                let act = Act::Cancel { reason: String::new() };
                for event in carry_out(&world.state, &act, &Actor::unverified("octocat"), &Policy::default()).unwrap() {
                    world.record(event);
                }
                let started = world.state.stages.iter().map(|stage| stage.attempts.len()).sum::<usize>();
                world.run_to_end();
                let after = world.state.stages.iter().map(|stage| stage.attempts.len()).sum::<usize>();
                prop_assert_eq!(started, after, "something started after the cancel");
                prop_assert_eq!(world.state.ending, Some(Ending::Cancelled));
                break;
            }
            world.happen(wake_in);
        }
        prop_assert!(world.state.ending.is_some());
    }

    #[test]
    fn a_run_that_is_replayed_again_and_again_ends_each_time(
        draft in drafts(),
        picks in prop::collection::vec((any::<u64>(), 0..40usize), 1..5),
        cut: prop::sample::Index,
    ) {
        let mut world = World::start(&draft);
        for (pick, after) in picks {
            // In the middle of the run, or when it has ended.
            for _ in 0..after {
                let wake_in = world.decide();
                if world.state.ending.is_some() {
                    break;
                }
                world.happen(wake_in);
            }
            world.replay(pick);
            let done = world.succeeded();
            if pick & 64 == 0 {
                world.run_to_end();
                for (before, after) in done.iter().zip(world.succeeded()) {
                    prop_assert!(before.is_none() || *before == after, "{:?} became {:?}", before, after);
                }
            }
        }
        world.run_to_end();
        let mut events = world.journal.iter();
        let (at, first) = events.next().unwrap();
        let mut state = RunState::begin(*at, first).unwrap();
        for (at, event) in events {
            state.apply(*at, event).unwrap();
            let mut anew = state.clone();
            anew.reindex();
            prop_assert_eq!(indexes(&anew), indexes(&state), "after {:?}", event);
        }
        prop_assert_eq!(format!("{:?}", state.stages), format!("{:?}", world.state.stages));
        let cut = 1 + cut.index(world.journal.len());
        let mut resumed = World::resume(&draft, world.journal[..cut].to_vec(), cut as u64);
        resumed.run_to_end();
    }

    #[test]
    fn no_event_is_taken_in_twice(draft in drafts()) {
        let mut world = World::start(&draft);
        world.run_to_end();
        for cut in 1..world.journal.len() {
            let prefix = world.journal[..cut].iter().map(|(at, event)| (*at, event));
            let mut state = RunState::fold(prefix).unwrap();
            let (at, event) = &world.journal[cut - 1];
            // Asking for a cancel twice is no error; all else happens once.
            let again = state.apply(*at, event);
            let harmless = matches!(event, RunEvent::TimeoutReached { .. } | RunEvent::GateReached { .. });
            prop_assert!(again.is_err() || harmless, "{:?} twice", event);
        }
    }
}

#[test]
fn a_deadline_that_passes_stops_the_attempt_as_a_timeout() {
    let stage = DraftStage { needs: 0, steps: 1, retries: 1, environment: None, condition: None };
    let draft = Draft { stages: vec![stage], slots: 1, seed: 4, reject: false };
    let mut world = World::start(&draft);
    let left = world.decide().expect("a deadline");
    world.pass(left - Duration::from_millis(1));
    // The clock tells nothing of it.
    world.now = world.now.saturating_add(Duration::from_secs(24 * 3600)).unwrap();
    assert_eq!(world.decide(), Some(Duration::from_millis(1)));
    assert_eq!(world.state.stages[0].attempts[0].timed_out_at, None);
    world.pass(Duration::from_millis(1));
    world.decide();
    let failure = Failure::new(Cause::Cancelled, "stopped");
    world.record(settle(&world.state, 0, 1, Err(failure)));
    let Some(Err(failure)) = &world.state.stages[0].attempts[0].end else { panic!("it failed") };
    assert_eq!(failure.cause, Cause::Timeout);
}
