//! Any row of events of a run: each is taken in or is an error that changes nothing, and every state that
//! comes of it can be drawn, decided upon and asked things.

use std::collections::BTreeMap;

use jiff::Timestamp;
use windlass::cli::logs::piece::Which;
use windlass::run::approval::{Policy, Rules};
use windlass::run::command::{Act, carry_out};
use windlass::run::decide::{Asks, Facts, Place, Waits, decide};
use windlass::run::event::{Actor, Cause, Ending, Failure, Inputs, Origin, RunEvent};
use windlass::run::replay::Selection;
use windlass::run::state::{Phase, RunState};
use windlass::run::view::{RunView, view};

use super::events;

pub const WORDS: &[&str] = events::WORDS;

/// Past it, the drawing of each state takes too long.
const EVENTS: usize = 100;

/// A journal, an event in each line, of which one that is none is passed over; or, behind a `#`, choices of
/// events.
pub fn target(data: &[u8]) {
    match data.strip_prefix(b"#") {
        Some(choices) => chosen(choices),
        None => recorded(data),
    }
}

/// What came of a journal so far.
struct Journal {
    state: RunState,
    taken: Vec<(Timestamp, RunEvent)>,
}

impl Journal {
    fn begin(first: RunEvent) -> Option<Self> {
        let at = time(0);
        let state = RunState::begin(at, &first).ok()?;
        look(&state);
        Some(Self { state, taken: vec![(at, first)] })
    }

    fn add(&mut self, event: RunEvent) {
        let at = time(self.taken.len() as i64);
        let before = self.state.clone();
        match self.state.apply(at, &event) {
            Ok(()) => {
                assert_eq!(self.state.sequence, before.sequence + 1);
                self.taken.push((at, event));
                look(&self.state);
            }
            Err(illegal) => {
                assert!(!illegal.to_string().is_empty());
                let (state, before) = (format!("{:?}", self.state), format!("{before:?}"));
                assert_eq!(state, before, "{event:?} is illegal and changed something");
            }
        }
    }

    fn end(self) {
        let folded =
            RunState::fold(self.taken.iter().map(|(at, event)| (*at, event))).expect("each was legal");
        assert_eq!(shown(&folded), shown(&self.state), "folded anew it is another state");
    }
}

/// All that events change, without what stands in no order.
fn shown(state: &RunState) -> String {
    let indexes = (
        state.plain(),
        state.ready().collect::<Vec<_>>(),
        state.retrying().collect::<Vec<_>>(),
        state.has_failed(),
    );
    let outside = (&state.gates, &state.cancel, &state.superseded, &state.ending, &state.replays);
    format!("{:?}", (&state.stages, indexes, outside, &state.params, state.sequence, state.updated_at))
}

fn time(n: i64) -> Timestamp {
    Timestamp::from_second(1_793_000_000 + n).unwrap()
}

fn recorded(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n');
    let mut events = lines.filter_map(|line| serde_json::from_slice::<RunEvent>(line).ok()).take(EVENTS);
    let Some(mut journal) = events.next().and_then(Journal::begin) else { return };
    events.for_each(|event| journal.add(event));
    journal.end();
}

/// Every shape that there is: two ways that join, a stage whatever happens, environments of two stages, one
/// that is tried again, one behind all.
const PIPELINE: &str = "
name: p
stages:
  source: { uses: checkout }
  build: { needs: [source], retry: { attempts: 3, on: [task, infrastructure] }, steps: [{ run: x }, { run: y }] }
  test: { needs: [source], steps: [{ run: x }] }
  try: { needs: [build, test], environment: dev, steps: [{ run: x }] }
  ship: { needs: [try], environment: production, steps: [{ run: x }] }
  look: { needs: [ship], environment: production, if: always(), steps: [{ run: x }] }
  notify: { needs: [test], if: failure(), steps: [{ run: x }] }
";

/// Each pair of bytes is an event and what it is about; most of them are possible, or nearly.
fn chosen(choices: &[u8]) {
    let origin = Origin::new(PIPELINE, "/p.yaml", Actor::unverified("ada"));
    let first = RunEvent::Created { run: "p/1".parse().unwrap(), origin: Box::new(origin) };
    let mut journal = Journal::begin(first).expect("the pipeline is one");
    for pair in choices.chunks_exact(2).take(EVENTS) {
        let event = event(&journal.state, pair[0], usize::from(pair[1]));
        journal.add(event);
    }
    journal.end();
}

fn event(state: &RunState, kind: u8, about: usize) -> RunEvent {
    let i = about % state.stages.len();
    let off = u32::from((about / 8).is_multiple_of(16));
    let stage = state.pipeline.stages[i].name.clone();
    let attempts = &state.stages[i].attempts;
    let (last, steps) =
        (attempts.len() as u32 + off, attempts.last().map_or(0, |attempt| attempt.steps.len()) as u32 + off);
    let environment = || if about & 1 == 0 { "dev" } else { "production" }.parse().unwrap();
    let actor = || Actor::unverified(if about & 2 == 0 { "ada" } else { "policy:x" });
    let causes = [Cause::Task, Cause::Infrastructure, Cause::Timeout, Cause::Cancelled, Cause::Policy];
    let failure = || Failure::new(causes[about / 8 % causes.len()], "it failed");
    let reason = || "because".to_owned();
    match kind % 24 {
        0 | 1 => RunEvent::AttemptStarted { stage, attempt: last + 1, inputs: Inputs::default() },
        2 | 3 => RunEvent::StepStarted { stage, attempt: last, step: steps + 1, name: "x".to_owned() },
        4 => RunEvent::StepNoted {
            stage,
            attempt: last,
            step: steps,
            key: "k".to_owned(),
            value: about.into(),
        },
        5 | 6 => RunEvent::StepSucceeded {
            stage,
            attempt: last,
            step: steps,
            exit_code: Some(0),
            log_bytes: u64::MAX,
            result: serde_json::Value::Null,
        },
        7 => RunEvent::StepFailed {
            stage,
            attempt: last,
            step: steps,
            failure: failure(),
            exit_code: None,
            log_bytes: 0,
        },
        8 | 9 => RunEvent::AttemptSucceeded { stage, attempt: last, outcome: Box::default() },
        10 | 11 => RunEvent::AttemptFailed { stage, attempt: last, failure: failure() },
        12 => RunEvent::AttemptRefused { stage, attempt: last + 1, failure: failure() },
        13 => RunEvent::RetryScheduled { stage, attempt: last + 1, not_before: Timestamp::MAX },
        14 => RunEvent::StageSkipped { stage, reason: reason() },
        15 => RunEvent::GateReached { environment: environment(), stage, shipment: Box::default() },
        16 if about & 4 == 0 => RunEvent::Approved { environment: environment(), actor: actor() },
        16 => RunEvent::Promoted { environment: environment(), actor: actor() },
        17 => RunEvent::Rejected { environment: environment(), actor: actor(), reason: reason() },
        18 => RunEvent::EnvironmentEntered { environment: environment(), stage },
        19 => RunEvent::EnvironmentLeft { environment: environment() },
        20 if about & 4 == 0 => RunEvent::TimeoutReached { stage, attempt: last },
        20 => RunEvent::CancelRequested { actor: actor(), reason: String::new() },
        21 if about & 4 == 0 => RunEvent::Superseded { by: "p/2".parse().unwrap(), reason: reason() },
        21 => RunEvent::Ended {
            ending: [Ending::Succeeded, Ending::Failed, Ending::Cancelled, Ending::Superseded][about % 4],
        },
        22 => RunEvent::Reported { stage, attempt: last, report: Box::default() },
        _ => {
            // What a replay names comes from what is asked; here it is any set.
            let stages = (0..state.stages.len()).filter(|i| about >> i & 1 == 1);
            let stages = stages.map(|i| state.pipeline.stages[i].name.clone()).collect();
            RunEvent::Replayed { actor: actor(), request: "--failed".to_owned(), stages, edits: Vec::new() }
        }
    }
}

fn look(state: &RunState) {
    let open = state.stages.iter().filter(|stage| !stage.phase.is_final()).count();
    assert_eq!(state.open(), open, "the index of what is open");
    let running: Vec<usize> =
        (0..state.stages.len()).filter(|i| state.stages[*i].phase == Phase::Running).collect();
    assert_eq!(state.running().collect::<Vec<_>>(), running, "the index of what runs");

    let drawn = view(state, &Waits::at_gates(state));
    let text = serde_json::to_string(&drawn).expect("a view can be written");
    let again: RunView = serde_json::from_str(&text).expect("a view can be read");
    assert_eq!(again, drawn);
    let which = Which { stage: None, step: None, attempt: None };
    assert!(which.check(&drawn, false).is_ok());
    for piece in which.pieces(&drawn, None) {
        assert!(!which.is_over(&drawn) || drawn.status.is_final());
        assert!(
            drawn
                .stages
                .iter()
                .any(|stage| stage.name == piece.id.attempt.stage
                    && piece.id.step as usize <= stage.steps.len())
        );
    }

    // The first lines of what the engine does, whatever the settings say.
    for asks in [Asks::Nothing, Asks::Promotion] {
        let place = |asks| Place {
            group: "qa".to_owned(),
            asks,
            has_fleet: true,
            held: None,
            rules: Rules::default(),
        };
        let places: BTreeMap<_, _> = state.gates.keys().map(|name| (name.clone(), place(asks))).collect();
        let facts = Facts {
            now: state.updated_at,
            lasted: &BTreeMap::new(),
            free_slots: 2,
            slots: 2,
            wanting: None,
            places: &places,
        };
        let decision = decide(state, &facts);
        let mut next = state.clone();
        for event in &decision.events {
            next.apply(state.updated_at, event)
                .unwrap_or_else(|illegal| panic!("it decides {event:?}: {illegal}"));
        }
    }
    // People are slower.
    if !state.sequence.is_multiple_of(4) {
        return;
    }
    let actor = Actor::unverified("ada");
    let mut acts = vec![
        Act::Cancel { reason: String::new() },
        Act::Replay { selection: Selection::Failed, edits: Vec::new() },
    ];
    acts.extend(state.gates.keys().map(|environment| Act::Promote { environment: environment.clone() }));
    acts.extend(
        state
            .pipeline
            .stages
            .iter()
            .take(3)
            .map(|stage| Act::Replay { selection: Selection::From(stage.name.clone()), edits: Vec::new() }),
    );
    for act in acts {
        if let Ok(events) = carry_out(state, &act, &actor, &Policy::default()) {
            let mut next = state.clone();
            for event in &events {
                next.apply(state.updated_at, event)
                    .unwrap_or_else(|illegal| panic!("{act:?} gives {event:?}: {illegal}"));
            }
        }
    }
}
