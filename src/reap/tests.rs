//! The judge by cases, and what holds whatever there is.

use proptest::prelude::*;

use super::*;

const NOW: i64 = 100_000_000;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    at(NOW - seconds)
}

fn run(number: u32) -> RunId {
    format!("shop/{number}").parse().unwrap()
}

fn image_id(number: u32) -> ImageId {
    format!("img-{number}").parse().unwrap()
}

fn digest(number: u32) -> Digest {
    Digest::of(&number.to_be_bytes())
}

fn production() -> FleetId {
    FleetId::new("shop".parse().unwrap(), "production".parse().unwrap())
}

fn version(number: u32) -> Version {
    Version { image: image_id(number), release: digest(number) }
}

/// A thing of a run, made so many seconds ago.
fn thing(kind: Kind, id: &str, number: u32, age: i64) -> Thing {
    Thing {
        service: Some("shop".parse().unwrap()),
        run: Some(run(number)),
        stage: Some("bake".parse().unwrap()),
        image_key: Some(digest(number)),
        ..Thing::new(kind, id, ago(age))
    }
}

fn image(number: u32, certified: bool, age: i64) -> Thing {
    Thing { certified, ..thing(Kind::Image, image_id(number).as_str(), number, age) }
}

fn instance(number: u32, age: i64) -> Thing {
    Thing {
        fleet: Some(production()),
        release: Some(digest(number)),
        image: Some(image_id(number)),
        ..thing(Kind::Instance, &format!("i-{number}"), number, age)
    }
}

/// A run that began and ended so long ago, with the image of its number.
fn ended(number: u32, began: i64, ended: i64) -> (RunId, Run) {
    let images = BTreeSet::from([image_id(number)]);
    (run(number), Run { began_at: ago(began), ended_at: Some(ago(ended)), over: BTreeSet::new(), images })
}

fn open(number: u32, began: i64) -> (RunId, Run) {
    let (id, run) = ended(number, began, 0);
    (id, Run { ended_at: None, ..run })
}

fn facts(runs: impl IntoIterator<Item = (RunId, Run)>) -> Facts {
    Facts { runs: runs.into_iter().collect(), ..Facts::default() }
}

/// A fleet that serves `current` and would go back to `previous`.
fn fleet(current: u32, previous: u32) -> Fleet {
    Fleet {
        current: Some(version(current)),
        previous: Some(image_id(previous)),
        releases: (0..=current).map(digest).collect(),
        images: [image_id(current), image_id(previous)].into(),
        size: 2,
        health: Health::Serving { healthy: 2, size: 2 },
        ..Fleet::default()
    }
}

/// What becomes of the first of these, and why.
#[track_caller]
fn says(things: &[Thing], facts: &Facts) -> String {
    let verdicts = judge(things, facts, at(NOW), 2);
    let first = verdicts.first().unwrap();
    format!("{:?}: {}", first.fate, first.reason)
}

#[test]
fn what_a_run_worked_with_goes_when_it_has_ended() {
    let builder = || [thing(Kind::Builder, "b", 1, 2 * HOUR)];
    let over = facts([ended(1, 3 * HOUR, HOUR)]);
    assert_eq!(says(&builder(), &over), "Ends: a builder of shop/1, which ended 60 min ago");
    assert_eq!(says(&builder(), &facts([open(1, 3 * HOUR)])), "Stays: shop/1 has not ended");

    let mut stage_over = facts([open(1, 3 * HOUR)]);
    stage_over.runs.get_mut(&run(1)).unwrap().over.insert("bake".parse().unwrap());
    assert_eq!(says(&builder(), &stage_over), "Ends: a builder of shop/1, whose stage bake is over");

    let mut adopted = over.clone();
    adopted.bakes.insert(digest(1), run(2));
    assert_eq!(says(&builder(), &adopted), "Stays: shop/2 makes that image");

    let scratch = |age| [thing(Kind::Scratch, "s", 1, age)];
    let long_over = facts([ended(1, 3 * DAY, 18 * HOUR)]);
    assert_eq!(says(&scratch(20 * HOUR), &long_over), "Stays: it is kept for 24 h");
    assert_eq!(
        says(&scratch(30 * HOUR), &long_over),
        "Ends: what a builder fetched and wrote of shop/1, which ended 18 h ago"
    );
}

#[test]
fn what_nothing_here_explains_stays() {
    let known = facts([ended(1, 3 * HOUR, 2 * HOUR)]);
    let builder = |number, age| [thing(Kind::Builder, "b", number, age)];
    assert_eq!(
        says(&builder(7, 9 * DAY), &known),
        "Unknown: shop/7 is not known here: it may be of another data directory"
    );
    let other = "Unknown: shop/1 was not under way when it came to be: it may be of another data directory";
    assert_eq!(says(&builder(1, 4 * HOUR), &known), other);
    assert_eq!(says(&builder(1, HOUR), &known), other);
    let nobody = Thing { run: None, ..thing(Kind::Builder, "b", 1, 9 * DAY) };
    assert_eq!(says(&[nobody], &known), "Unknown: it does not say which run it is of");
    // What is recorded is explained, whenever it was made.
    assert!(says(&[image(1, false, 9 * DAY)], &known).starts_with("Stays: shop/1 ended"));
}

#[test]
fn what_is_young_stays() {
    let known = facts([ended(1, HOUR, MINUTE)]);
    let young = |age| says(&[thing(Kind::Builder, "b", 1, age)], &known);
    assert_eq!(young(14 * MINUTE), "Stays: it is younger than 15 min");
    assert!(young(16 * MINUTE).starts_with("Ends"));
}

#[test]
fn an_upload_goes_with_its_run_or_when_it_is_stale() {
    let upload = |age| [thing(Kind::Upload, "u", 1, age)];
    let says = |age, facts: &Facts| says(&upload(age), facts);
    assert!(
        says(HOUR, &facts([ended(1, 2 * HOUR, HOUR)])).starts_with("Ends: an unfinished upload of shop/1")
    );
    let open = facts([open(1, 10 * DAY)]);
    assert_eq!(says(6 * DAY, &open), "Stays: shop/1 has not ended");
    assert_eq!(says(8 * DAY, &open), "Ends: an unfinished upload of shop/1, begun 8 days ago");
}

#[test]
fn an_instance_goes_when_its_fleet_is_whole_without_it() {
    let mut known = facts([ended(1, 3 * DAY, 2 * DAY), ended(2, DAY, HOUR)]);
    let old = [instance(1, 2 * DAY)];
    assert!(says(&old, &known).contains("has no journal here"));

    known.fleets.insert(production(), fleet(2, 1));
    assert_eq!(says(&old, &known), "Ends: shop-production runs img-2, and is whole without it");
    assert_eq!(says(&[instance(2, HOUR)], &known), "Stays: it is what shop-production runs");

    let with = |change: &dyn Fn(&mut Fleet)| {
        let mut known = known.clone();
        change(known.fleets.get_mut(&production()).unwrap());
        says(&old, &known)
    };
    let healthy = |fleet: &mut Fleet| fleet.health = Health::Serving { healthy: 1, size: 2 };
    assert!(with(&healthy).starts_with("Stays: shop-production is not whole, 1 of 2 serve"));
    assert!(with(&|fleet| fleet.health = Health::Unknown).starts_with("Stays: it cannot be seen"));
    assert_eq!(with(&|fleet| fleet.busy = Some("shop/3 holds it".to_owned())), "Stays: shop/3 holds it");
    let standby = |fleet: &mut Fleet| fleet.standby = Some(version(1));
    assert_eq!(with(&standby), "Stays: it stands by for shop-production");
    let down = |fleet: &mut Fleet| fleet.current = None;
    assert!(with(&down).starts_with("Ends: shop-production runs nothing"));

    let kept = Thing { keeper: Some("the Auto Scaling group g".to_owned()), ..instance(1, 2 * DAY) };
    assert_eq!(says(&[kept], &known), "Stays: the Auto Scaling group g looks after it");
}

#[test]
fn images_that_serve_or_may_have_to_stay() {
    let runs = (1..=9).map(|number| ended(number, 20 * DAY, i64::from(10 - number) * DAY));
    let mut known = facts(runs);
    known.fleets.insert(production(), fleet(5, 3));
    let things: Vec<Thing> =
        (1..=9).map(|number| image(number, number != 9, i64::from(20 - number) * DAY)).collect();
    let fate = |known: &Facts| {
        let verdicts = judge(&things, known, at(NOW), 2);
        let ends = verdicts.iter().filter(|verdict| verdict.fate == Fate::Ends);
        ends.map(|verdict| verdict.thing.id.clone()).collect::<Vec<_>>()
    };
    // 9 was never certified, and its run ended a day ago: not more than that.
    assert_eq!(fate(&known), ["img-1", "img-2", "img-4", "img-6"]);

    known.quarantined.insert(("shop".parse().unwrap(), image_id(8)), ago(2 * DAY));
    known.quarantined.insert(("shop".parse().unwrap(), image_id(1)), ago(HOUR));
    known.images.insert(image_id(4), run(7));
    let busy = known.fleets.get_mut(&production()).unwrap();
    (busy.next, busy.standby) = (Some(version(2)), None);
    // 8 makes room for 6; 1 may be looked at, 2 is being rolled out, 4 is worked with.
    assert_eq!(fate(&known), ["img-8"]);
}

#[test]
fn an_image_that_was_rolled_out_counts_as_much_as_one_that_was_certified() {
    let mut known = facts([ended(1, 9 * DAY, 8 * DAY), ended(2, 9 * DAY, 8 * DAY)]);
    let never = [image(1, false, 8 * DAY)];
    assert!(
        says(&never, &known).starts_with("Ends: it was never certified nor rolled out, and shop/1 ended")
    );
    known.fleets.insert(production(), Fleet { images: [image_id(1)].into(), ..Fleet::default() });
    assert_eq!(says(&never, &known), "Stays: one of the newest 2 that were certified or rolled out");
    let launched = Thing { image: Some(image_id(2)), ..instance(9, HOUR) };
    assert_eq!(says(&[image(2, false, 8 * DAY), launched], &known), "Stays: the instance i-9 runs it");
}

#[test]
fn a_snapshot_goes_after_its_image() {
    let known = facts([ended(1, 9 * DAY, 8 * DAY)]);
    let snapshot = || Thing { image_key: Some(digest(1)), ..thing(Kind::Snapshot, "snap-1", 1, 8 * DAY) };
    assert_eq!(says(&[snapshot()], &known), "Ends: its image is gone, and shop/1 ended 8 days ago");
    let of = |parts: &[&str]| Thing {
        parts: parts.iter().map(ToString::to_string).collect(),
        ..image(1, true, 8 * DAY)
    };
    assert_eq!(says(&[snapshot(), of(&["snap-1"])], &known), "Stays: a part of img-1");
    assert_eq!(says(&[snapshot(), of(&[])], &known), "Stays: a part of img-1");
    assert!(says(&[snapshot(), of(&["snap-2"])], &known).starts_with("Ends"));
}

/// Anything that may be there, of runs 1 to 8, of which those from 7 on are not known.
fn any_thing() -> impl Strategy<Value = Thing> {
    let kinds = [Kind::Builder, Kind::Instance, Kind::Upload, Kind::Scratch, Kind::Image, Kind::Snapshot];
    (prop::sample::select(kinds.to_vec()), 1..9u32, 0..40i64, any::<bool>(), any::<bool>()).prop_map(
        |(kind, number, days, certified, fleet)| {
            let made = Thing { certified, ..instance(number, days * DAY / 4) };
            let id = match kind {
                Kind::Image => image_id(number).to_string(),
                _ => format!("{}-{number}-{days}", kind.word()),
            };
            Thing { kind, id, fleet: made.fleet.clone().filter(|_| fleet), ..made }
        },
    )
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let run = |number: u32| {
        (0..40i64, 0..40i64, any::<bool>()).prop_map(move |(began, length, is_open)| {
            let (began, end) = (began * DAY / 4, (began - length).max(0) * DAY / 4);
            if is_open { open(number, began) } else { ended(number, began, end) }
        })
    };
    let runs: Vec<_> = (1..7).map(run).collect();
    let numbers = || prop::collection::vec(1..9u32, 0..3);
    let fleet =
        (1..9u32, 1..9u32, prop::option::of(1..9u32), prop::option::of(1..9u32), 0..3u32, any::<bool>());
    (runs, fleet, numbers(), numbers(), any::<bool>()).prop_map(|(runs, parts, images, bakes, has_fleet)| {
        let (current, previous, standby, next, healthy, is_down) = parts;
        let mut known = facts(runs);
        let mut fleet = fleet_of(current, previous);
        fleet.health = Health::Serving { healthy, size: 2 };
        (fleet.standby, fleet.next) = (standby.map(version), next.map(version));
        fleet.busy = next.map(|_| "a rollout is under way".to_owned());
        if is_down {
            fleet.current = None;
        }
        if has_fleet {
            known.fleets.insert(production(), fleet);
        }
        known.images = images.into_iter().map(|number| (image_id(number), run_of(5))).collect();
        known.bakes = bakes.into_iter().map(|number| (digest(number), run_of(5))).collect();
        known
    })
}

fn fleet_of(current: u32, previous: u32) -> Fleet {
    Fleet { releases: (1..9).map(digest).collect(), ..fleet(current, previous) }
}

fn run_of(number: u32) -> RunId {
    run(number)
}

proptest! {
    #[test]
    fn nothing_ends_that_anybody_needs(
        things in prop::collection::vec(any_thing(), 0..24),
        facts in any_facts(),
        keep in 0..4u32,
    ) {
        let verdicts = judge(&things, &facts, at(NOW), keep);
        prop_assert_eq!(verdicts.len(), things.len());
        for verdict in verdicts.iter().filter(|verdict| verdict.fate == Fate::Ends) {
            let thing = &verdict.thing;
            let known = thing.run.as_ref().and_then(|run| facts.runs.get(run));
            prop_assert!(known.is_some(), "{verdict:?} is of nobody here");
            let stale = thing.kind == Kind::Upload && thing.created_at < ago(7 * DAY);
            prop_assert!(known.unwrap().ended_at.is_some() || stale, "{verdict:?} of a run under way");
            prop_assert!(thing.created_at <= ago(15 * MINUTE), "{verdict:?} is young");
            let made = thing.image_key.as_ref().filter(|_| thing.kind != Kind::Upload && thing.kind != Kind::Instance);
            prop_assert!(!made.is_some_and(|key| facts.bakes.contains_key(key)), "{verdict:?} is being made");
            for fleet in facts.fleets.values() {
                let versions = [&fleet.current, &fleet.standby, &fleet.next];
                let versions: Vec<&Version> = versions.into_iter().flatten().collect();
                if thing.kind == Kind::Image {
                    let used = versions.iter().map(|version| &version.image).chain(&fleet.previous);
                    prop_assert!(used.clone().all(|id| id.as_str() != thing.id), "{verdict:?} is in use");
                }
                if thing.kind == Kind::Instance {
                    let release = thing.release.as_ref().unwrap();
                    prop_assert!(versions.iter().all(|version| version.release != *release), "{verdict:?} serves");
                    let whole = fleet.current.is_none() || fleet.health == Health::Serving { healthy: 2, size: 2 };
                    prop_assert!(whole && fleet.busy.is_none(), "{verdict:?} lowers what serves");
                }
            }
            if thing.kind == Kind::Image {
                let id = image_id(thing.id[4..].parse().unwrap());
                prop_assert!(!facts.images.contains_key(&id), "{verdict:?} is worked with");
                let launched = things.iter().filter(|other| other.kind == Kind::Instance);
                prop_assert!(launched.clone().all(|other| other.image.as_ref() != Some(&id)), "{verdict:?} runs");
            }
        }
        // The newest certified one that is ours stays, whatever is to be kept.
        let ours = |thing: &&Verdict| {
            let thing = &thing.thing;
            thing.kind == Kind::Image && thing.certified && facts.runs.contains_key(thing.run.as_ref().unwrap())
        };
        let newest = verdicts.iter().filter(ours).max_by_key(|verdict| (verdict.thing.created_at, &verdict.thing.id));
        prop_assert!(newest.is_none_or(|newest| newest.fate != Fate::Ends), "{newest:?}");
    }
}
