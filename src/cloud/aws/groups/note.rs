//! What has to be restored when a rollout is over, written on the group itself before anything is
//! changed: whoever finds it can restore it, also after every one of our processes was killed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::cloud::Error;

/// The tag of the group that has the note, as JSON.
pub const TAG: &str = "windlass:suspended";
/// The tag of a group that was left empty: the minimum that it had.
pub const MINIMUM: &str = "windlass:min_size";

/// Processes that would interfere ("Suspend-resume processes", Amazon EC2 Auto Scaling User Guide).
/// `Launch` and `Terminate` are what a rollout works with. `AddToLoadBalancer` is suspended, since who
/// takes traffic when is what a rollout decides; what comes up meanwhile is registered by it.
pub const INTERFERING: [&str; 7] = [
    "AZRebalance",
    "AddToLoadBalancer",
    "AlarmNotification",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
];

/// What a group was like before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Processes that we suspend: never one that somebody else had suspended.
    pub suspended: BTreeSet<String>,
    pub min: i32,
    pub max: i32,
}

impl Note {
    pub fn new(suspended_before: &BTreeSet<String>, min: i32, max: i32) -> Self {
        let ours = INTERFERING.iter().filter(|name| !suspended_before.contains(**name));
        Self { suspended: ours.map(|name| (*name).to_owned()).collect(), min, max }
    }

    pub fn text(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::Failed(format!("the note of a group: {error}")))
    }

    pub fn parse(group: &str, text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| {
            Error::Denied(format!(
                "the tag {TAG} of the group {group} does not say what to restore ({error}): restore its \
                 processes and its minimum by hand, and delete the tag"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_suspended_is_not_ours_to_resume() {
        let before = BTreeSet::from(["AZRebalance".to_owned(), "Launch".to_owned()]);
        let note = Note::new(&before, 1, 4);
        assert!(!note.suspended.contains("AZRebalance"));
        assert_eq!(note.suspended.len(), INTERFERING.len() - 1);
        assert_eq!(Note::parse("g", &note.text().unwrap()).unwrap(), note);
    }

    #[test]
    fn it_fits_into_a_tag() {
        // "Tag value: up to 256 Unicode characters" (Amazon EC2 Auto Scaling User Guide).
        let note = Note::new(&BTreeSet::new(), 1_000_000, 1_000_000);
        assert!(note.text().unwrap().len() <= 256, "{}", note.text().unwrap());
    }

    #[test]
    fn what_it_said_in_an_earlier_version_is_still_read() {
        let old = r#"{"suspended":["AZRebalance"],"min":1,"max":2}"#;
        let note = Note { suspended: BTreeSet::from(["AZRebalance".to_owned()]), min: 1, max: 2 };
        assert_eq!(Note::parse("g", old).unwrap(), note);
        assert!(matches!(Note::parse("g", "?"), Err(Error::Denied(why)) if why.contains(TAG)));
    }
}
