//! Stored events: bytes are an event or an error, an event is stored as it was read, and fleets and
//! environments have a state after any row of events.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use windlass::run::environment::EnvironmentState;
use windlass::run::event::{EnvironmentEvent, FleetEvent, Origin, RunEvent};
use windlass::run::fleet::FleetState;
use windlass::run::view::RunView;

pub const WORDS: &[&str] = &[
    "\"type\":\"",
    "created",
    "attempt_started",
    "step_started",
    "step_noted",
    "step_succeeded",
    "attempt_failed",
    "retry_scheduled",
    "gate_reached",
    "promoted",
    "environment_entered",
    "replayed",
    "reported",
    "ended",
    "held",
    "released",
    "rollout_started",
    "rollout_ended",
    "standby_held",
    "repair_started",
    "backed_off",
    "quarantined",
    "locked",
    "unlocked",
    "\"stage\":\"build\"",
    "\"attempt\":1",
    "\"attempt\":4294967295",
    "\"step\":0",
    "\"value\":",
    "[[[[[[[[",
    "{\"a\":",
    "null",
    "1e308",
    "-0.0",
    "1e-7",
    "18446744073709551616",
    "\"2026-11-22T05:00:00Z\"",
    "\"-009999-01-02T01:59:59Z\"",
    "\"9999-12-30T22:00:00.999999999Z\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "{",
    "}",
    ",",
    "\n",
];

pub fn target(data: &[u8]) {
    let mut fleet = Vec::new();
    let mut environment = Vec::new();
    for (number, line) in data.split(|byte| *byte == b'\n').enumerate() {
        let at = Timestamp::from_second(1_793_000_000 + number as i64).unwrap();
        stable::<RunEvent>(line);
        stable::<Origin>(line);
        stable::<RunView>(line);
        fleet.extend(stable::<FleetEvent>(line).map(|event| (at, event)));
        environment.extend(stable::<EnvironmentEvent>(line).map(|event| (at, event)));
    }
    let state = FleetState::fold(fleet.iter().map(|(at, event)| (*at, event)));
    assert_eq!(state.sequence, fleet.len() as u64);
    let current = state.current.as_ref().map(|current| &current.image.id);
    if let Some(before) = state.previous(|image| state.quarantined.contains_key(image)) {
        assert!(Some(&before.image.id) != current && !state.quarantined.contains_key(&before.image.id));
    }
    assert!(!state.is_down() || !state.is_rolling());
    for now in [Timestamp::MIN, Timestamp::MAX] {
        let _ = state.held_at(now);
    }
    EnvironmentState::fold(environment.iter().map(|(at, event)| (*at, event)));
}

/// Reads an event, and sees that it is stored as what it is.
pub fn stable<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let event: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_string(&event).expect("what was read can be stored");
    let again: T = serde_json::from_str(&text).expect("what was stored can be read");
    assert_eq!(again, event, "{text}");
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    Some(event)
}
