//! What a stage asks of a cloud: each request goes to the log of the step under way, and is counted.
//!
//! What is heard between two steps is kept for the next one: the log of a step that has ended is not
//! written to any more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cloud::hearing::{Call, Hearer};

/// How many requests there were of each operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calls(BTreeMap<String, u64>);

impl Calls {
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, other: &Self) {
        for (operation, count) in &other.0 {
            *self.0.entry(operation.clone()).or_default() += count;
        }
    }
}

/// `87 API calls: DescribeInstances 20, RunInstances 10`, the most frequent first.
impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(operation, count)| (std::cmp::Reverse(**count), *operation));
        let all: Vec<String> = all.iter().map(|(operation, count)| format!("{operation} {count}")).collect();
        write!(f, "{} API calls: {}", self.total(), all.join(", "))
    }
}

/// Hears all that a stage does.
#[derive(Default)]
pub struct Tally(Mutex<State>);

#[derive(Default)]
struct State {
    /// The step under way.
    to: Option<Arc<dyn Hearer>>,
    /// What was heard since the last one ended.
    kept: Vec<String>,
    /// Not yet handed out by [`Tally::taken`].
    since: Calls,
    all: Calls,
}

impl Tally {
    /// Counts on from what steps before have recorded.
    pub fn recall<'a>(&self, recorded: impl Iterator<Item = &'a serde_json::Value>) {
        let mut state = self.state();
        for calls in recorded.filter_map(|value| serde_json::from_value::<Calls>(value.clone()).ok()) {
            state.all.add(&calls);
        }
    }

    /// From now on this one hears, also what was said since the last one ended.
    pub fn pass_to(&self, hearer: Arc<dyn Hearer>) {
        let mut state = self.state();
        for line in std::mem::take(&mut state.kept) {
            hearer.say(&line);
        }
        state.to = Some(hearer);
    }

    /// The step ends and records nothing: what comes is kept for the next one.
    pub fn pauses(&self) {
        self.state().to = None;
    }

    /// The step ends: what comes is kept for the next one. Answers what was asked since the last one
    /// recorded it.
    pub fn ends(&self) -> Calls {
        let mut state = self.state();
        state.to = None;
        std::mem::take(&mut state.since)
    }

    /// All that was asked.
    pub fn all(&self) -> Calls {
        self.state().all.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hearer for Tally {
    fn say(&self, line: &str) {
        let mut state = self.state();
        match &state.to {
            Some(hearer) => hearer.say(line),
            None => state.kept.push(line.to_owned()),
        }
    }

    fn called(&self, call: &Call<'_>) {
        let one = Calls([(call.operation.to_owned(), 1)].into());
        {
            let mut state = self.state();
            state.all.add(&one);
            state.since.add(&one);
        }
        self.say(&call.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);

    impl Hearer for Log {
        fn say(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    fn call(operation: &str) -> Call<'_> {
        Call { service: "ec2", operation, request: None, took: Duration::from_millis(7), error: None }
    }

    #[test]
    fn each_request_is_in_the_log_of_the_step_under_way_and_counted() {
        let (tally, first, second) = (Tally::default(), Arc::new(Log::default()), Arc::new(Log::default()));
        tally.called(&call("DescribeInstances"));
        tally.pass_to(first.clone());
        tally.called(&call("RunInstances"));
        tally.say("no room");
        let recorded = serde_json::to_value(tally.ends()).unwrap();
        tally.called(&call("DescribeInstances"));
        tally.pass_to(second.clone());
        assert_eq!(
            *first.0.lock().unwrap(),
            ["ec2:DescribeInstances 7 ms", "ec2:RunInstances 7 ms", "no room"]
        );
        assert_eq!(*second.0.lock().unwrap(), ["ec2:DescribeInstances 7 ms"]);
        assert_eq!(tally.all().to_string(), "3 API calls: DescribeInstances 2, RunInstances 1");

        let later = Tally::default();
        later.recall([&recorded, &serde_json::Value::Null, &serde_json::json!("else")].into_iter());
        later.called(&call("DescribeInstances"));
        assert_eq!(later.all().to_string(), "3 API calls: DescribeInstances 2, RunInstances 1");
        assert_eq!(later.ends().total(), 1, "what was recorded is not recorded again");
    }

    #[test]
    fn nothing_asked_is_nothing_to_say() {
        let tally = Tally::default();
        tally.say("a line");
        assert!(tally.all().is_none() && tally.ends().is_none());
    }
}
