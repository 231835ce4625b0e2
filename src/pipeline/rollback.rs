//! The pipeline of a rollback: made here, not written by anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{EnvironmentName, PipelineName, StageName};

use super::model::{Kind, Pipeline, Queue, Retry, Stage, Triggers};

/// The name of its only stage.
const STAGE: &str = "rollback";

/// The pipeline that moves the fleet of a service in an environment back to an image: one stage
/// `rollback` that uses `deploy`, one attempt of at most `timeout`. Nothing bakes before it: whoever
/// starts the run names the image. It supersedes nothing and nothing supersedes it.
pub fn rollback(name: &PipelineName, environment: &EnvironmentName, timeout: Duration) -> Pipeline {
    Pipeline {
        name: name.clone(),
        source: None,
        on: Triggers::default(),
        queue: Queue::Every,
        params: BTreeMap::new(),
        stages: vec![Stage {
            name: stage(),
            kind: Kind::Deploy,
            needs: Vec::new(),
            condition: None,
            environment: Some(environment.clone()),
            timeout,
            retry: Retry { attempts: 1, on: Vec::new() },
            env: BTreeMap::new(),
            secrets: Vec::new(),
        }],
    }
}

fn stage() -> StageName {
    STAGE.parse().expect("the constant follows the convention of names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_is_one_deploy() {
        let pipeline =
            rollback(&"shop".parse().unwrap(), &"production".parse().unwrap(), Duration::from_secs(60));
        let [stage] = pipeline.stages.as_slice() else { panic!("{:?}", pipeline.stages) };
        assert_eq!((stage.name.as_str(), stage.kind.word()), ("rollback", "deploy"));
        assert_eq!(stage.environment.as_ref().map(|name| name.as_str()), Some("production"));
        assert_eq!((stage.timeout, stage.retry.attempts), (Duration::from_secs(60), 1));
    }
}
