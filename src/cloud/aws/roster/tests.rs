use super::*;

fn seen(id: &str, state: InstanceStateName) -> Seen {
    let tags = [
        (tags::SERVICE, "shop"),
        (tags::ENVIRONMENT, "production"),
        (tags::FLEET, "shop-production"),
        (tags::KEY, id),
    ];
    Seen {
        id: id.parse().unwrap(),
        state,
        reason: None,
        address: None,
        subnet: None,
        image: None,
        launched_at: Timestamp::UNIX_EPOCH,
        tags: tags.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

fn running(id: &str) -> Seen {
    seen(id, InstanceStateName::Running)
}

fn listed(roster: &Roster) -> Vec<String> {
    let fleet = FleetId::new("shop".parse().unwrap(), "production".parse().unwrap());
    roster.of(&fleet).into_iter().map(|entry| entry.seen.id.to_string()).collect()
}

fn look(roster: &Roster, shown: Vec<Seen>) {
    roster.known().take(shown, Instant::now());
}

#[test]
fn what_was_just_launched_is_listed_though_no_look_shows_it() {
    let roster = Roster::default();
    roster.launched(seen("i-1", InstanceStateName::Pending));
    for _ in 0..10 {
        look(&roster, vec![]);
        assert_eq!(listed(&roster), ["i-1"]);
    }
    assert_eq!(roster.by_key(&"i-1".parse().unwrap()).unwrap().seen.state, InstanceStateName::Pending);
    look(&roster, vec![running("i-1")]);
    assert_eq!(roster.by_id(&"i-1".parse().unwrap()).unwrap().seen.state, InstanceStateName::Running);
}

#[test]
fn one_look_that_does_not_show_it_proves_nothing_and_two_do() {
    let roster = Roster::default();
    look(&roster, vec![running("i-1"), running("i-2")]);
    look(&roster, vec![running("i-2")]);
    assert_eq!(listed(&roster), ["i-1", "i-2"]);
    look(&roster, vec![running("i-1")]);
    look(&roster, vec![running("i-1")]);
    assert_eq!(listed(&roster), ["i-1"]);
}

#[test]
fn what_we_ended_stays_ended_whatever_an_older_look_shows() {
    let roster = Roster::default();
    roster.launched(running("i-1"));
    roster.dismiss(&"i-1".parse().unwrap());
    look(&roster, vec![running("i-1")]);
    assert!(roster.by_id(&"i-1".parse().unwrap()).unwrap().dismissed.is_some());
    assert_eq!(roster.dismissed_within(Duration::from_secs(60)), 1);
    // An answer of the launch that comes late does not bring it back.
    roster.launched(running("i-1"));
    assert!(roster.by_id(&"i-1".parse().unwrap()).unwrap().dismissed.is_some());
}

#[test]
fn a_fleet_is_told_by_all_its_tags() {
    let mut other = running("i-1");
    other.tags.insert(tags::SERVICE.to_owned(), "cart".to_owned());
    assert_eq!(other.fleet(), None, "the tags contradict each other");
    let mut bare = running("i-2");
    bare.tags.clear();
    assert_eq!(bare.fleet(), None);
}

#[test]
fn whole_seconds_are_rounded_up_and_no_others() {
    let whole = rounded_up(1_000, 0).unwrap();
    assert!(whole > Timestamp::new(1_000, 900_000_000).unwrap());
    assert_eq!(rounded_up(1_000, 5).unwrap(), Timestamp::new(1_000, 5).unwrap());
    assert_eq!(rounded_up(i64::MAX, 0), None);
}

#[tokio::test]
async fn a_key_is_launched_by_one_at_a_time_and_what_is_in_doubt_is_kept() {
    let roster = Roster::default();
    let key: Key = "k".parse().unwrap();
    let pair = Pair { instance_type: "t3.small".to_owned(), subnet: "a".to_owned() };
    let doubt = Doubt { pair, generation: 0 };
    let mut held = roster.launching(&key).await;
    *held = Some(doubt.clone());
    let second = roster.launching(&key);
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(held);
    assert_eq!(*second.await, Some(doubt.clone()));
    assert_eq!(*roster.launching(&"other".parse().unwrap()).await, None);
    assert_eq!(*roster.launching(&key).await, Some(doubt), "nobody holds it and it is still known");
}
