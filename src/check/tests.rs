//! Which findings follow from which lists; files and databases are looked at from outside.

use super::*;
use crate::ids::PipelineName;
use crate::run::event::{Actor, Cause, Ending, Failure, FleetEvent, Inputs, Origin, RunEvent};
use crate::store::Event;
use crate::store::sqlite::{Entry, Lists};

const PIPELINE: &str = "name: shop\nstages: { a: { steps: [{ run: 'true' }] } }\n";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn entries(events: impl IntoIterator<Item = Event>) -> Vec<Entry> {
    let entry = |(nth, event)| Entry { sequence: nth, at: Ok(at(nth)), event: Ok(event) };
    (1..).zip(events).map(entry).collect()
}

fn run(number: u64) -> RunId {
    RunId::new("shop".parse::<PipelineName>().unwrap(), number)
}

/// The journal of a run up to its attempt, and to its end.
fn journal(number: u64, ended: bool) -> Vec<Entry> {
    let origin = Origin::new(PIPELINE, "/shop.yaml", Actor::unverified("ada"));
    let stage = || "a".parse().unwrap();
    let failure = Failure::new(Cause::Task, "it did not go well");
    let mut events = vec![
        RunEvent::Created { run: run(number), origin: Box::new(origin) },
        RunEvent::AttemptStarted { stage: stage(), attempt: 1, inputs: Inputs::default() },
    ];
    if ended {
        events.push(RunEvent::AttemptFailed { stage: stage(), attempt: 1, failure });
        events.push(RunEvent::Ended { ending: Ending::Failed });
    }
    entries(events.into_iter().map(Event::Run))
}

fn row(number: u64, status: &str) -> RunRow {
    let ended = status == "failed";
    RunRow {
        run: run(number),
        status: status.to_owned(),
        ended,
        commit: None,
        actor: "ada".to_owned(),
        waiting_for: None,
        created_at: at(1),
        updated_at: at(if ended { 4 } else { 2 }),
    }
}

fn judged(journals: &[(u64, bool)], rows: Vec<RunRow>) -> Verdict {
    let mut judge = Judge::new(at(100));
    for (number, ended) in journals {
        judge.journal(&format!("run:shop/{number}"), journal(*number, *ended));
    }
    let numbers = vec![("shop".to_owned(), 9)];
    judge.lists(&Lists { runs: rows.into_iter().map(Ok).collect(), numbers, ..Lists::default() });
    judge.finish()
}

fn problems(verdict: &Verdict) -> Vec<String> {
    verdict.findings.iter().map(|finding| format!("{}: {}", finding.place, finding.problem)).collect()
}

#[test]
fn rows_are_what_the_journals_fold_to() {
    let sound = judged(&[(1, true), (2, false)], vec![row(1, "failed"), row(2, "running")]);
    assert_eq!((problems(&sound), sound.rows, sound.looked.runs), (vec![], None, 2));

    // The journal does not say why an unfinished run waits; that something of it runs, it says.
    let wrong = judged(&[(1, true), (2, false)], vec![row(1, "failed"), row(2, "waiting")]);
    assert_eq!(problems(&wrong), ["shop/2: its row says waiting, and its journal running"]);
    let made = Some(Rows { runs: vec![row(1, "failed"), row(2, "running")], fleets: vec![] });
    assert_eq!(wrong.rows, made, "rows that are right stay as they are");
    assert!(wrong.findings[0].mendable);

    let other = RunRow { actor: "eve".to_owned(), ..row(1, "failed") };
    assert_eq!(
        problems(&judged(&[(1, true)], vec![other])),
        ["shop/1: its row is not what its journal says"]
    );
    let nobody = judged(&[(1, true)], vec![row(1, "failed"), row(3, "failed")]);
    assert_eq!(problems(&nobody), ["shop/3: it stands in a list and has no journal"]);
    assert_eq!(nobody.rows.map(|rows| rows.runs.len()), Some(1));
}

#[test]
fn of_a_journal_that_cannot_be_followed_the_row_is_kept() {
    let mut judge = Judge::new(at(100));
    let mut broken = journal(1, true);
    broken.remove(1);
    judge.journal("run:shop/1", broken);
    judge.journal("run:shop/2", journal(2, true));
    let runs = vec![Ok(row(1, "failed"))];
    judge.lists(&Lists { runs, numbers: vec![("shop".to_owned(), 2)], ..Lists::default() });
    let verdict = judge.finish();
    let wanted = [
        "run:shop/1: event 2 is missing: the next one there is 3",
        "shop/2: it has a journal and stands in no list",
    ];
    assert_eq!(problems(&verdict), wanted);
    assert_eq!(verdict.rows.unwrap().runs, [row(1, "failed"), row(2, "failed")]);
}

#[test]
fn a_fleets_row_follows_its_last_event() {
    let fleet: FleetId = FleetId::new("shop".parse().unwrap(), "production".parse().unwrap());
    let held = FleetEvent::Held { run: run(1), service: "shop".parse().unwrap() };
    let ended = FleetEvent::Ended { actor: Actor::unverified("ada") };
    let judged = |ended_row| {
        let mut judge = Judge::new(at(100));
        let events = [held.clone(), ended.clone()].map(Event::Fleet);
        judge.journal("fleet:production/shop", entries(events));
        let row = FleetRow { fleet: fleet.clone(), ended: ended_row, updated_at: at(2) };
        judge.lists(&Lists { fleets: vec![Ok(row)], ..Lists::default() });
        judge.finish().findings.len()
    };
    assert_eq!((judged(true), judged(false)), (0, 1));
}

#[test]
fn only_what_is_said_of_indexes_is_mendable() {
    let mut judge = Judge::new(at(0));
    let said = [
        "row 3 missing from index runs_by_status",
        "wrong # of entries in index x",
        "Tree 7 page 9: btreeInitPage() returns error code 11",
    ];
    judge.database(&said.map(str::to_owned));
    let mendable: Vec<bool> = judge.finish().findings.iter().map(|finding| finding.mendable).collect();
    assert_eq!(mendable, [true, true, false]);
}
