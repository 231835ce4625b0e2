//! Who is healthy is not yet who was meant: the setting `version`.

use crate::support::{World, edit, image, stage, text};

#[test]
fn a_service_that_does_not_name_its_version_turns_back() {
    let world = World::new();
    // The page says of which instance it is, and so of which version.
    edit(&world.settings, "size: 3", "version: /\n        patience: 30s\n        size: 3");
    let first = world.ship();
    let before = world.is_whole("production", image(&first), 3);

    edit(&world.settings, "version: /\n        patience: 30s", "version: /healthz\n        patience: 2s");
    world.version(2);
    world.run(&["--promote", "all"]).ended().with(1);
    let view = world.show("shop/2");
    let reason = text(&stage(&view, "production")["reason"]);
    for words in ["did not go in", "was not healthy 2 s after its launch", "/healthz does not name 2-"] {
        assert!(reason.contains(words), "{reason}");
    }
    assert_eq!(stage(&view, "staging")["status"], "succeeded");
    let after = world.is_whole("production", image(&first), 3);
    assert!(after.iter().any(|id| before.contains(id)));
    world.end();
}
