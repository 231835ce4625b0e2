use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;

fn seen(state: InstanceStateName, code: &str, said: &str) -> Seen {
    let reason = (!code.is_empty()).then(|| (code.to_owned(), said.to_owned()));
    let launched_at = Timestamp::UNIX_EPOCH;
    let (address, subnet, image, tags) = (None, None, None, BTreeMap::new());
    Seen { id: "i-1".parse().unwrap(), state, reason, address, subnet, image, launched_at, tags }
}

fn told(aws: InstanceStateName, code: &str, said: &str) -> String {
    match state(&seen(aws, code, said)) {
        None => "gone".to_owned(),
        Some(InstanceState::Failed { reason }) => reason,
        Some(other) => format!("{other:?}"),
    }
}

#[test]
fn who_ended_it_decides_whether_it_failed() {
    use InstanceStateName::*;
    assert_eq!(told(Pending, "pending", "pending"), "Pending");
    assert_eq!(told(Running, "", ""), "Running");
    for over in [ShuttingDown, Terminated] {
        assert_eq!(told(over.clone(), "Client.UserInitiatedShutdown", "User initiated shutdown"), "gone");
        assert_eq!(told(over.clone(), "", ""), "gone");
        assert_eq!(
            told(over.clone(), "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"),
            "it ended by itself: Instance initiated shutdown"
        );
        assert_eq!(
            told(over, "Server.SpotInstanceTermination", ""),
            "it ended by itself: Server.SpotInstanceTermination"
        );
    }
    let stopped = "Client.UserInitiatedShutdown";
    assert_eq!(told(Stopping, stopped, "User initiated"), "it was stopped: User initiated");
    assert_eq!(told(Stopped, "", ""), "it was stopped: AWS does not say why");
}
