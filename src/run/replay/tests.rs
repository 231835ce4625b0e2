use std::collections::BTreeMap;

use super::super::approval::{Policy, Rules};
use super::super::command::{self, Act};
use super::super::decide::{Asks, Facts, Place, decide};
use super::super::event::{Failure, Image, Origin, Outcome, Promote, Shipment};
use super::super::view;
use super::*;
use crate::ids::Digest;
use crate::run::decide::Waits;

const SHOP: &str = "\
name: shop
params: { flavour: { default: plain } }
stages:
  lint: { steps: [{ run: 'true' }] }
  build:
    retry: { attempts: 2, on: [infrastructure] }
    env: { FLAVOUR: '${{ params.flavour }}', LEVEL: low }
    steps: [{ run: make }]
    artifacts: { app: dist/ }
  upload: { uses: upload, needs: [lint, build], with: { artifact: app } }
  bake: { uses: bake, needs: upload, with: { start: ./shop } }
  staging: { uses: deploy, needs: bake, environment: staging }
  e2e: { needs: staging, environment: staging, steps: [{ run: ./e2e.sh }] }
  certify: { uses: certify, needs: e2e }
  production: { uses: deploy, needs: certify, environment: production }
";

/// A run without an engine: each stage ends as the test says.
struct Run {
    state: RunState,
    journal: Vec<RunEvent>,
    places: BTreeMap<EnvironmentName, Place>,
    /// The stage that does not end.
    lasts: Option<&'static str>,
    /// The image that bake makes.
    image: &'static str,
}

impl Run {
    fn new(text: &str) -> Self {
        let mut origin = Origin::new(text, "/shop.yaml", octocat());
        origin.params.insert("flavour".to_owned(), "plain".to_owned());
        let run = RunId::new("shop".parse().unwrap(), 1);
        let created = RunEvent::Created { run, origin: Box::new(origin) };
        let place = |asks| Place {
            group: "qa".to_owned(),
            asks,
            rules: Rules::default(),
            has_fleet: true,
            held: None,
        };
        let places = BTreeMap::from([
            ("staging".parse().unwrap(), place(Asks::Nothing)),
            ("production".parse().unwrap(), place(Asks::Promotion)),
        ]);
        let state = RunState::begin(Timestamp::UNIX_EPOCH, &created).unwrap();
        Self { state, journal: vec![created], places, lasts: None, image: "image-0000000000000001" }
    }

    fn record(&mut self, event: RunEvent) {
        self.state.apply(Timestamp::UNIX_EPOCH, &event).unwrap_or_else(|e| panic!("{event:?}: {e}"));
        self.journal.push(event);
        let events = self.journal.iter().map(|event| (Timestamp::UNIX_EPOCH, event));
        let folded = RunState::fold(events).unwrap();
        assert_eq!(seen(&folded), seen(&self.state));
        let mut anew = self.state.clone();
        anew.reindex();
        assert_eq!(seen(&anew), seen(&self.state), "the indexes are not true");
    }

    /// Goes on until the run has ended or stands at a gate. The stages of `fails` fail, the others
    /// succeed.
    fn go(&mut self, fails: &[&str]) -> &mut Self {
        for _ in 0..1_000 {
            let facts = Facts {
                now: Timestamp::UNIX_EPOCH,
                lasted: &BTreeMap::new(),
                free_slots: 9,
                slots: 9,
                wanting: None,
                places: &self.places,
            };
            let decision = decide(&self.state, &facts);
            let mut more = !decision.events.is_empty();
            decision.events.into_iter().for_each(|event| self.record(event));
            for (environment, i) in decision.enter {
                let stage = self.state.pipeline.stages[i].name.clone();
                self.record(RunEvent::EnvironmentEntered { environment, stage });
                more = true;
            }
            for (environment, i) in decision.survey {
                let image = self.state.gate_image(&self.state.gates[&environment]);
                let shipment = Box::new(Shipment { image, ..Shipment::default() });
                let stage = self.state.pipeline.stages[i].name.clone();
                self.record(RunEvent::GateReached { environment, stage, shipment });
                more = true;
            }
            for i in self.state.running().collect::<Vec<_>>() {
                if self.lasts == Some(self.state.pipeline.stages[i].name.as_str()) {
                    continue;
                }
                self.finish(i, fails);
                more = true;
            }
            if !more {
                return self;
            }
        }
        panic!("the run does not end");
    }

    fn finish(&mut self, i: usize, fails: &[&str]) {
        let stage = self.state.pipeline.stages[i].name.clone();
        let attempt = self.state.attempt_number(i);
        if fails.contains(&stage.as_str()) {
            let failure = Failure::task("exit code 1");
            return self.record(RunEvent::AttemptFailed { stage, attempt, failure });
        }
        if let Some(step) = self.state.stages[i].attempts.last().unwrap().steps.last() {
            assert_eq!(step.phase, crate::run::state::StepPhase::Running);
            let (stage, result) = (stage.clone(), serde_json::Value::Null);
            let (step, exit_code, log_bytes) = (1, Some(0), 0);
            self.record(RunEvent::StepSucceeded { stage, attempt, step, exit_code, log_bytes, result });
        }
        let mut outcome = Box::new(Outcome::default());
        if stage.as_str() == "bake" {
            let (id, name) = (self.image.parse().unwrap(), "shop-1".to_owned());
            let (key, run) = (Digest::of(self.image.as_bytes()), self.state.id.clone());
            outcome.image = Some(Image { id, name, key, parent: None, commit: None, run });
        }
        self.record(RunEvent::AttemptSucceeded { stage, attempt, outcome });
    }

    fn act(&mut self, act: Act) -> Result<(), command::Refusal> {
        let events = command::carry_out(&self.state, &act, &octocat(), &Policy::default())?;
        events.into_iter().for_each(|event| self.record(event));
        Ok(())
    }

    fn replay(&mut self, words: &str, edits: &[&str]) -> Result<(), String> {
        let edits = edits.iter().map(|edit| edit.parse().unwrap()).collect();
        let selection = match words.split_once(' ') {
            Some(("stage", stage)) => Selection::Stage(stage.parse().unwrap()),
            Some(("from", stage)) => Selection::From(stage.parse().unwrap()),
            _ => Selection::Failed,
        };
        self.act(Act::Replay { selection, edits }).map_err(|refusal| refusal.to_string())
    }

    fn refused(&mut self, words: &str, edits: &[&str]) -> String {
        self.replay(words, edits).unwrap_err()
    }

    fn promote(&mut self) -> &mut Self {
        self.act(Act::Promote { environment: "production".parse().unwrap() }).unwrap();
        self
    }

    /// How often each stage was tried.
    fn tried(&self) -> Vec<usize> {
        self.state.stages.iter().map(|stage| stage.attempts.len()).collect()
    }

    fn asks(&self) -> bool {
        self.state.gates["production"].undecided().is_some()
    }

    fn env(&self, stage: &str) -> &BTreeMap<String, String> {
        let i = self.state.names[stage];
        &self.state.stages[i].attempts.last().unwrap().inputs.env
    }
}

/// All of the state that changes.
fn seen(state: &RunState) -> String {
    let RunState { stages, gates, index, params, replays, ending, cancel, sequence, .. } = state;
    let stages = (stages, gates, index, &state.pipeline.stages);
    format!("{stages:?} {params:?} {replays:?} {ending:?} {cancel:?} {sequence}")
}

fn octocat() -> Actor {
    Actor::unverified("octocat")
}

#[test]
fn what_failed_is_done_again_and_what_was_skipped_because_of_it_follows() {
    let mut run = Run::new(SHOP);
    run.go(&["build"]);
    assert_eq!(run.state.ending, Some(Ending::Failed));
    run.replay("failed", &["params.flavour=fancy"]).unwrap();
    let Some(RunEvent::Replayed { stages, request, .. }) = run.journal.last() else { panic!() };
    let names: Vec<&str> = stages.iter().map(|stage| stage.as_str()).collect();
    assert_eq!(names, ["build", "upload", "bake", "staging", "e2e", "certify", "production"]);
    assert_eq!((request.as_str(), run.state.ending), ("--failed", None));
    run.go(&[]).promote().go(&[]);
    assert_eq!(run.state.ending, Some(Ending::Succeeded));
    assert_eq!(run.tried(), [1, 2, 1, 1, 1, 1, 1, 1]);
    assert_eq!(run.env("build")["FLAVOUR"], "fancy");
    assert_eq!(run.state.origin.params["flavour"], "plain", "the origin never changes");

    let view = view::view(&run.state, &Waits::default());
    assert_eq!(view.params["flavour"], "fancy");
    assert_eq!((view.replays.len(), view.replays[0].edits[0].as_str()), (1, "params.flavour=fancy"));
    let build = &view.stages[1];
    assert_eq!((build.attempt, build.attempts, build.history.len(), build.cause), (2, 2, 2, None));
    assert_eq!(build.history[0].reason.as_deref(), Some("exit code 1"));
    assert_eq!(build.history[1].status, view::StageStatus::Succeeded);
}

#[test]
fn a_stage_is_followed_by_what_has_not_succeeded_and_from_it_by_everything() {
    let mut run = Run::new(SHOP);
    run.go(&["e2e"]);
    run.replay("stage bake", &[]).unwrap();
    run.go(&[]).promote().go(&[]);
    assert_eq!(run.tried(), [1, 1, 1, 2, 1, 2, 1, 1], "staging had succeeded");
    run.replay("from certify", &[]).unwrap();
    run.go(&[]).promote().go(&[]);
    assert_eq!(run.tried(), [1, 1, 1, 2, 1, 2, 2, 2]);
    assert_eq!(run.state.ending, Some(Ending::Succeeded));
}

#[test]
fn what_comes_after_waits_for_the_replayed_stage_also_past_what_has_succeeded() {
    let mut run = Run::new(SHOP);
    run.go(&[]).promote().go(&["production"]);
    run.replay("stage upload", &[]).unwrap();
    let i = run.state.names["production"];
    assert!(!run.state.ready().any(|ready| ready == i), "certify has succeeded, and upload has not yet");
    run.go(&["upload"]);
    assert_eq!(run.state.ending, Some(Ending::Failed));
    let reason = "upload failed".to_owned();
    assert_eq!(run.state.stages[i].phase, Phase::Skipped { reason });
    let why = run.refused("stage production", &[]);
    assert!(why.contains("needs upload, which has not succeeded: replay upload first"), "{why}");
    run.replay("failed", &[]).unwrap();
    run.go(&[]);
    assert_eq!((run.state.ending, run.tried()), (Some(Ending::Succeeded), vec![1, 1, 3, 1, 1, 1, 1, 2]));
}

#[test]
fn a_stage_that_waits_to_be_done_again_shows_nothing_of_before() {
    let mut run = Run::new(SHOP);
    run.go(&["build"]);
    run.replay("failed", &[]).unwrap();
    let view = view::view(&run.state, &Waits::default());
    let build = &view.stages[1];
    assert_eq!((build.attempt, build.attempts, build.status), (0, 1, view::StageStatus::Pending));
    assert_eq!((&build.reason, build.cause, build.started_at), (&None, None, None));
    assert_eq!((build.history.len(), view.finished_at), (1, None));
}

#[test]
fn edits_of_the_environment_win_and_stay() {
    let mut run = Run::new(SHOP);
    run.go(&["build"]);
    run.replay("failed", &["build.env.LEVEL=${{ high }}", "params.flavour=fancy"]).unwrap();
    run.go(&["build"]);
    assert_eq!(run.env("build")["LEVEL"], "${{ high }}", "values never become code");
    run.replay("failed", &["params.flavour=plain"]).unwrap();
    run.go(&[]);
    assert_eq!(
        (run.env("build")["LEVEL"].as_str(), run.env("build")["FLAVOUR"].as_str()),
        ("${{ high }}", "plain")
    );
}

#[test]
fn retries_are_counted_from_the_replay_on() {
    let mut run = Run::new(SHOP);
    let lost = |run: &mut Run| {
        let stage: StageName = "build".parse().unwrap();
        let attempt = run.state.attempt_number(1);
        let failure = Failure::infrastructure("the runner was lost");
        run.record(RunEvent::AttemptFailed { stage: stage.clone(), attempt, failure });
        let retries = matches!(run.state.stages[1].phase, Phase::Retrying { .. });
        if retries {
            let not_before = Timestamp::UNIX_EPOCH;
            run.record(RunEvent::RetryScheduled { stage: stage.clone(), attempt: attempt + 1, not_before });
            let inputs = Default::default();
            run.record(RunEvent::AttemptStarted { stage, attempt: attempt + 1, inputs });
        }
        retries
    };
    let start = |run: &mut Run| {
        let attempt = run.state.attempt_number(1) + 1;
        let inputs = Default::default();
        run.record(RunEvent::AttemptStarted { stage: "build".parse().unwrap(), attempt, inputs });
    };
    start(&mut run);
    assert!(lost(&mut run) && !lost(&mut run), "two attempts");
    run.go(&[]);
    run.replay("failed", &[]).unwrap();
    start(&mut run);
    assert!(lost(&mut run) && !lost(&mut run), "and two more");
    assert_eq!(run.tried()[1], 4);
}

#[test]
fn after_a_deploy_that_failed_the_promotion_holds_and_after_one_that_succeeded_it_is_spent() {
    let mut run = Run::new(SHOP);
    run.go(&[]).promote().go(&["production"]);
    assert_eq!(run.state.ending, Some(Ending::Failed));
    run.replay("failed", &[]).unwrap();
    run.go(&[]);
    assert_eq!(run.state.ending, Some(Ending::Succeeded), "no second click");
    run.replay("stage production", &[]).unwrap();
    run.go(&[]);
    assert!(run.asks() && run.state.ending.is_none());
    run.promote().go(&[]);
    assert_eq!((run.state.ending, run.tried()[7]), (Some(Ending::Succeeded), 3));
}

#[test]
fn what_the_command_line_promoted_beforehand_counts_until_it_has_shipped() {
    let mut run = Run::new(SHOP);
    Arc::make_mut(&mut run.state.origin).promote = Promote::All;
    let RunEvent::Created { origin, .. } = &mut run.journal[0] else { panic!() };
    origin.promote = Promote::All;
    run.go(&["production"]);
    run.replay("failed", &[]).unwrap();
    run.go(&[]);
    assert_eq!(run.state.ending, Some(Ending::Succeeded));
    run.replay("from e2e", &[]).unwrap();
    run.go(&[]);
    assert!(run.asks());
}

#[test]
fn a_promotion_holds_for_its_image_alone() {
    let mut run = Run::new(SHOP);
    run.go(&[]).promote().go(&["production"]);
    run.replay("from bake", &[]).unwrap();
    run.go(&["production"]);
    assert_eq!(run.tried()[7], 2, "the same image came of it: no second click");
    run.image = "image-0000000000000002";
    run.replay("from bake", &[]).unwrap();
    run.go(&[]);
    assert!(run.asks(), "another image asks again");
    assert_eq!(run.tried()[7], 2);
    let gate = &run.state.gates["production"];
    assert_eq!(gate.undecided().unwrap().image.as_ref().unwrap().id.as_str(), run.image);
    run.promote().go(&[]);
    assert_eq!(run.state.ending, Some(Ending::Succeeded));
}

#[test]
fn what_passed_with_another_image_says_nothing_about_this_one() {
    let mut run = Run::new(SHOP);
    run.go(&[]).promote().go(&[]);
    let [staging, e2e, certify] = ["staging", "e2e", "certify"].map(|stage| run.state.names[stage]);
    assert_eq!(run.state.outdated_ancestor(certify), None);
    run.image = "image-0000000000000002";
    run.replay("stage bake", &[]).unwrap();
    run.go(&[]);
    assert_eq!(run.state.outdated_ancestor(certify), Some(staging));
    run.replay("stage staging", &[]).unwrap();
    run.go(&[]);
    assert_eq!(run.state.outdated_ancestor(certify), Some(e2e));
    run.replay("from e2e", &[]).unwrap();
    run.go(&[]);
    assert_eq!(run.state.outdated_ancestor(certify), None);
}

const PARALLEL: &str = "\
name: shop
stages:
  build: { steps: [{ run: make }], artifacts: { app: dist/ } }
  upload: { uses: upload, needs: build, with: { artifact: app } }
  bake: { uses: bake, needs: upload, with: { start: ./shop } }
  production: { uses: deploy, needs: bake, environment: production }
  watch: { needs: build, environment: production, steps: [{ run: ./watch }] }
";

/// While the run is in an environment nobody is asked, so nothing that was not promoted may come of it.
#[test]
fn a_run_that_is_still_inside_takes_nothing_there_that_nobody_promoted() {
    // Its last stage there runs on.
    let inside = |fails: &[&str]| {
        let mut run = Run::new(PARALLEL);
        run.lasts = Some("watch");
        run.go(&[]);
        assert!(run.asks(), "for its image, also where another stage comes there first");
        run.promote().go(fails);
        assert_eq!(run.state.gates["production"].hold, Hold::Held);
        run
    };
    let mut run = inside(&[]);
    let why = run.refused("stage production", &[]);
    assert!(why.starts_with("shop/1 is still in production, under a promotion"), "{why}");

    let mut run = inside(&["production"]);
    run.replay("stage production", &[]).unwrap();
    run.go(&["production"]);
    assert_eq!(run.tried()[3], 2, "the promotion holds");
    run.image = "image-0000000000000002";
    run.replay("from bake", &[]).unwrap();
    run.go(&[]);
    assert!(run.asks() && run.tried()[3] == 2, "another image, which nobody has promoted");
    run.lasts = None;
    run.promote().go(&[]);
    assert_eq!((run.state.ending, run.tried()[3]), (Some(Ending::Succeeded), 3));
}

#[test]
fn a_rejected_gate_asks_again() {
    let mut run = Run::new(SHOP);
    run.go(&[]);
    let reason = "not today".to_owned();
    run.act(Act::Reject { environment: "production".parse().unwrap(), reason }).unwrap();
    run.go(&[]);
    assert_eq!(run.state.ending, Some(Ending::Failed));
    run.replay("failed", &[]).unwrap();
    run.go(&[]);
    assert!(run.asks());
    run.promote().go(&[]);
    assert_eq!(run.state.ending, Some(Ending::Succeeded));
}

#[test]
fn a_cancelled_run_goes_on_where_it_was_cut_off() {
    let mut run = Run::new(SHOP);
    run.go(&[]);
    run.act(Act::Cancel { reason: String::new() }).unwrap();
    assert!(run.refused("failed", &[]).contains("is being cancelled"));
    run.go(&[]);
    assert_eq!(run.state.ending, Some(Ending::Cancelled));
    run.replay("failed", &[]).unwrap();
    assert!(run.state.cancel.is_none());
    run.go(&[]);
    assert!(run.asks());
    run.promote().go(&[]);
    assert_eq!((run.state.ending, run.tried()), (Some(Ending::Succeeded), vec![1; 8]));
}

#[test]
fn a_run_under_way_takes_a_replay_of_what_has_ended() {
    let mut run = Run::new(SHOP);
    run.go(&[]);
    assert!(run.asks(), "it stands at production's gate");
    run.replay("stage e2e", &[]).unwrap();
    assert!(!run.asks(), "it does not stand there while e2e is to be done again");
    let why = run.refused("stage e2e", &[]);
    assert!(why.starts_with("e2e of shop/1 has not ended yet"), "{why}");
    run.go(&[]);
    assert!(run.asks());
    run.promote().go(&[]);
    assert_eq!(run.tried(), [1, 1, 1, 1, 1, 2, 1, 1]);

    let mut run = Run::new(
        "name: shop\nstages:\n  a: { steps: [{ run: a }] }\n  b: { needs: a, steps: [{ run: b }] }\n",
    );
    let started = |stage: &str| {
        let stage = stage.parse().unwrap();
        RunEvent::AttemptStarted { stage, attempt: 1, inputs: Default::default() }
    };
    run.record(started("a"));
    let (stage, outcome) = ("a".parse().unwrap(), Box::default());
    run.record(RunEvent::AttemptSucceeded { stage, attempt: 1, outcome });
    run.record(started("b"));
    let why = run.refused("from a", &[]);
    assert!(
        why.starts_with("a of shop/1 cannot be replayed while b, which works with what it made"),
        "{why}"
    );
}

#[test]
fn refusals_say_what_to_do() {
    let mut run = Run::new(SHOP);
    run.go(&["lint"]);
    let cases: [(&str, &[&str], &str); 12] = [
        ("stage biuld", &[], "shop/1 has no stage biuld; did you mean build?"),
        ("from nothing-like-it", &[], "shop/1 has no stage nothing-like-it; it has lint, build, upload"),
        (
            "stage certify",
            &[],
            "certify of shop/1 needs e2e, which has not succeeded: replay lint first, and what comes after \
             it follows: windlass replay shop/1 --stage lint",
        ),
        (
            "failed",
            &["params.flavor=x"],
            "the pipeline of shop/1 has no param \"flavor\"; did you mean flavour?",
        ),
        ("failed", &["biuld.env.LEVEL=x"], "shop/1 has no stage biuld; did you mean build?"),
        (
            "from build",
            &["build.env.LEVLE=x"],
            "build of shop/1 has no \"LEVLE\" in its env; did you mean LEVEL?",
        ),
        ("failed", &["lint.env.A=x"], "lint of shop/1 has no \"A\" in its env; it has none at all"),
        (
            "failed",
            &["build.env.LEVEL=x"],
            "build.env.LEVEL would change nothing: build is not among what --failed replays; \
             windlass replay shop/1 --from build",
        ),
        ("failed", &["params.flavour=x", "params.flavour=y"], "params.flavour is set twice"),
        ("failed", &["params.flavour=a\0b"], "the value of params.flavour has a NUL character"),
        ("failed", &["bake.with.nonsense=1"], "with these edits the pipeline of shop/1 is not valid:\n"),
        ("failed", &["nowhere.with.start=1"], "shop/1 has no stage nowhere"),
    ];
    let before = run.journal.len();
    for (words, edits, wanted) in cases {
        let why = run.refused(words, edits);
        assert!(why.starts_with(wanted), "{words} {edits:?}: {why}");
    }
    assert_eq!(run.journal.len(), before);
    let mut good = Run::new(SHOP);
    good.go(&[]).promote().go(&[]);
    let why = good.refused("failed", &[]);
    assert!(why.starts_with("nothing of shop/1 has failed: windlass replay shop/1 --stage STAGE"), "{why}");
}

#[test]
fn illegal_replays_leave_the_state_as_it_was() {
    let mut run = Run::new(SHOP);
    run.go(&["e2e"]);
    let before = seen(&run.state);
    for stages in [&[][..], &["nowhere"], &["e2e", "nowhere"]] {
        let stages = stages.iter().map(|stage| stage.parse().unwrap()).collect();
        let (request, edits) = ("--failed".to_owned(), vec!["params.flavour=x".parse().unwrap()]);
        let event = RunEvent::Replayed { actor: octocat(), request, stages, edits };
        run.state.apply(Timestamp::UNIX_EPOCH, &event).unwrap_err();
        assert_eq!(seen(&run.state), before);
    }
    run.replay("failed", &[]).unwrap();
    let before = seen(&run.state);
    let again = run.journal.last().unwrap().clone();
    run.state.apply(Timestamp::UNIX_EPOCH, &again).unwrap_err();
    assert_eq!(seen(&run.state), before, "its stages have not ended");
}

#[test]
fn edits_are_read_and_shown_the_same_way() {
    for text in ["params.flavour=fancy", "params.a=", "bake.with.start=./shop --a=b", "build.env.X=1=2"] {
        assert_eq!(text.parse::<Edit>().unwrap().to_string(), text);
    }
    for text in [
        "flavour=x",
        "params.flavour",
        "params.=x",
        "params=x",
        "build.env.=x",
        "build.needs.x=y",
        "=",
        "-b.env.x=y",
        "build.with=x",
        "build.x=y",
    ] {
        let error = text.parse::<Edit>().unwrap_err().to_string();
        assert!(error.starts_with("an edit is params.NAME=VALUE"), "{error}");
    }
}

#[test]
fn the_act_is_json_that_people_can_write() {
    let act: Act = serde_json::from_str(
        r#"{"act":"replay","selection":{"from":"build"},"edits":[{"of":"param","name":"flavour","value":"fancy"}]}"#,
    )
    .unwrap();
    let edits = vec!["params.flavour=fancy".parse().unwrap()];
    assert_eq!(act, Act::Replay { selection: Selection::From("build".parse().unwrap()), edits });
    let act: Act = serde_json::from_str(r#"{"act":"replay","selection":"failed"}"#).unwrap();
    assert_eq!(act, Act::Replay { selection: Selection::Failed, edits: Vec::new() });
}
