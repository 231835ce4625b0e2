//! PURE. The lists against the journals: rows, numbers, trigger keys, and the inbox.

use std::collections::{BTreeMap, BTreeSet};

use super::{Area, Finding, Judge, RESTORE, Rows};
use crate::ids::{FleetId, RunId};
use crate::run::view::Status;
use crate::store::sqlite::Lists;
use crate::store::{Delivery, DeliveryStatus, FleetRow, RunRow};

impl Judge {
    /// Takes in the lists. All journals were judged by then.
    pub fn lists(&mut self, lists: &Lists) {
        self.rows(lists);
        self.numbers(lists);
        let triggers: BTreeMap<&str, &str> =
            lists.triggers.iter().map(|(key, run)| (key.as_str(), run.as_str())).collect();
        for (key, run) in &triggers {
            if !self.is_there(run) {
                let problem = format!("it created {run}, which has no journal");
                self.found(Finding::error(Area::Lists, format!("trigger {key}"), problem).advice(RESTORE));
            }
        }
        for delivery in &lists.deliveries {
            self.looked.deliveries += 1;
            match delivery {
                Ok(delivery) => self.delivery(delivery, &triggers),
                Err(why) => {
                    let finding = Finding::error(Area::Inbox, "a delivery", why.clone());
                    self.found(finding.advice(RESTORE));
                }
            }
        }
    }

    fn is_there(&self, run: &str) -> bool {
        run.parse().is_ok_and(|run: RunId| self.has_run(&run))
    }

    fn rows(&mut self, lists: &Lists) {
        let mut wrong = Vec::new();
        for name in &lists.misplaced {
            wrong.push((name.clone(), "its row stands at the place of another journal".to_owned()));
        }
        let mut runs: BTreeMap<RunId, &RunRow> = BTreeMap::new();
        let mut fleets: BTreeMap<FleetId, &FleetRow> = BTreeMap::new();
        for row in &lists.runs {
            match row {
                Ok(row) => drop(runs.insert(row.run.clone(), row)),
                Err(why) => wrong.push(("runs".to_owned(), why.clone())),
            }
        }
        for row in &lists.fleets {
            match row {
                Ok(row) => drop(fleets.insert(row.fleet.clone(), row)),
                Err(why) => wrong.push(("fleets".to_owned(), why.clone())),
            }
        }
        let mut rows = Rows::default();
        for (run, wanted) in &self.runs {
            match (runs.remove(run), wanted) {
                (Some(row), Some(wanted)) => match differs(row, wanted) {
                    None => rows.runs.push(row.clone()),
                    Some(how) => {
                        wrong.push((run.to_string(), how));
                        rows.runs.push(wanted.clone());
                    }
                },
                // What cannot be followed is found where it stands.
                (Some(row), None) => rows.runs.push(row.clone()),
                (None, wanted) => {
                    wrong.push((run.to_string(), "it has a journal and stands in no list".to_owned()));
                    rows.runs.extend(wanted.clone());
                }
            }
        }
        for (fleet, wanted) in &self.fleets {
            let row = fleets.remove(fleet);
            rows.fleets.extend(wanted.clone().or(row.cloned()));
            if let Some(wanted) = wanted
                && row != Some(wanted)
            {
                wrong.push((fleet.to_string(), "its row is not what its journal says".to_owned()));
            }
        }
        let nobody = runs.keys().map(ToString::to_string).chain(fleets.keys().map(ToString::to_string));
        wrong.extend(nobody.map(|name| (name, "it stands in a list and has no journal".to_owned())));
        if !wrong.is_empty() {
            self.rows = Some(rows);
        }
        for (place, problem) in wrong {
            self.found(Finding::error(Area::Lists, place, problem).mendable());
        }
    }

    fn numbers(&mut self, lists: &Lists) {
        let stored: BTreeMap<&str, i64> =
            lists.numbers.iter().map(|(pipeline, last)| (pipeline.as_str(), *last)).collect();
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for run in self.runs.keys() {
            let last = newest.entry(run.pipeline.to_string()).or_default();
            *last = (*last).max(run.number);
        }
        for (pipeline, last) in newest {
            let known = stored.get(pipeline.as_str()).and_then(|known| u64::try_from(*known).ok());
            if known.unwrap_or_default() < last {
                let known = known.map_or("none".to_owned(), |known| known.to_string());
                let problem = format!("the number of its newest run is {last}, and {known} is kept");
                self.found(Finding::error(Area::Lists, &pipeline, problem).mendable());
                self.numbers.push((pipeline, last));
            }
        }
    }

    fn delivery(&mut self, delivery: &Delivery, triggers: &BTreeMap<&str, &str>) {
        let Delivery { key, body, settlement, .. } = delivery;
        let place = format!("{} {}", key.source, key.id);
        if settlement.status == DeliveryStatus::Pending && body.is_none() {
            let problem = "it is still to be handled, and its body is gone";
            self.found(
                Finding::error(Area::Inbox, &place, problem).advice("send it again from where it came"),
            );
        }
        let missing: BTreeSet<&RunId> = settlement.runs.iter().filter(|run| !self.has_run(run)).collect();
        for run in &missing {
            let problem = format!("it started {run}, which has no journal");
            self.found(Finding::error(Area::Inbox, &place, problem).advice(RESTORE));
        }
        if key.source != "github" {
            return;
        }
        for run in settlement.runs.iter().filter(|run| !missing.contains(run)) {
            let trigger = format!("github:{}:{}", key.id, run.pipeline);
            let known = triggers.get(trigger.as_str());
            if known.is_none_or(|known| *known != run.to_string()) {
                let problem = format!(
                    "it started {run}, and handled again it would start another: \
                                       the key {trigger} is not known"
                );
                self.found(Finding::error(Area::Inbox, &place, problem).advice(RESTORE));
            }
        }
    }
}

/// How a row differs from what the journal says. Why an unfinished run waits is not in its journal.
fn differs(row: &RunRow, wanted: &RunRow) -> Option<String> {
    let known: &[&str] = match (wanted.ended, wanted.status.as_str()) {
        (false, "queued" | "waiting") => &["queued", "waiting", "running"],
        (false, "running") => &["running"],
        (false, "cancelling") => &["cancelling"],
        _ => &[],
    };
    let status = row.status == wanted.status || known.contains(&row.status.as_str());
    let is = |status: &str| Status::ALL.iter().any(|known| known.as_str() == status);
    if !is(&row.status) {
        return Some(format!("its row says {:?}, which is no status", row.status));
    }
    if !status || row.ended != wanted.ended {
        return Some(format!("its row says {}, and its journal {}", row.status, wanted.status));
    }
    let waiting_for = if wanted.ended { None } else { row.waiting_for.clone() };
    let wanted = RunRow { status: row.status.clone(), waiting_for, ..wanted.clone() };
    (*row != wanted).then(|| "its row is not what its journal says".to_owned())
}
