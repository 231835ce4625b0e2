//! Weather and kills drawn from a seed: requests are throttled, dropped, slow, carried out with the answer
//! lost, refused for want of capacity, and whoever drives the run is killed at requests nobody chose. In the
//! end there is one image a version and one fleet an environment, and nothing that nobody explains.
//!
//! `WINDLASS_SEEDS=100 cargo test --test aws follow_from_a_seed -- --nocapture` tries a hundred other seeds;
//! `WINDLASS_SEED=17` tries that one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::story::{Pace, Story};
use crate::support::{Foreground, image};

/// The seed of every day: one with four kills.
const DAILY: std::ops::Range<u64> = 7..8;

/// A driver is given so long to come to the request at which it is killed.
const LOOK: Duration = Duration::from_millis(200);

/// Numbers that follow from a seed (SplitMix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A share of requests of up to so many in a hundred.
    fn chance(&mut self, percent: u64) -> f64 {
        self.below(percent + 1) as f64 / 100.0
    }
}

/// What the seed makes of the way to AWS.
fn weather(draw: &mut Draw, subnets: &[String]) -> Vec<Value> {
    let mut rules = vec![
        json!({ "chance": draw.chance(20), "fault": "throttle" }),
        json!({ "chance": draw.chance(8), "fault": "lost" }),
        json!({ "chance": draw.chance(8), "fault": "dropped" }),
        json!({ "chance": draw.chance(10), "fault": "slow", "seconds": 0.3 }),
    ];
    let dry = draw.below(subnets.len() as u64 + 1) as usize;
    if let Some(subnet) = subnets.get(dry) {
        let fits = json!({ "SubnetId": subnet });
        let times = 1 + draw.below(6);
        rules.push(
            json!({ "operations": ["RunInstances"], "match": fits, "times": times, "fault": "capacity" }),
        );
    }
    rules
}

/// Kills whoever drives the run at the `nth` request from now on. Whoever comes to the end before is given
/// back.
fn kill_at(story: &Story, driver: Foreground, nth: u64) -> Result<(), Foreground> {
    let rule = story.emulator.rule(json!({ "nth": nth, "fault": "block" }));
    loop {
        if story.emulator.held_within(rule, LOOK).is_some() {
            driver.kill();
            story.emulator.clear(rule);
            return Ok(());
        }
        if driver.is_over() {
            story.emulator.clear(rule);
            return Err(driver);
        }
    }
}

/// Ships a version in the seed's weather, and sees what became of it.
fn shipped(seed: u64) {
    let mut draw = Draw(seed);
    let story = Story::new(2, Pace::Quick);
    let before = story.world.ship();
    story.version(2);
    let rules = weather(&mut draw, &story.emulator.world.subnets);
    for rule in &rules {
        story.emulator.rule(rule.clone());
    }
    let wanted = draw.below(6);
    let mut driver = story.world.run(&["--promote", "all"]);
    let mut kills = 0;
    while kills < wanted {
        match kill_at(&story, driver, 1 + draw.below(25)) {
            Ok(()) => driver = story.world.resume("shop/2"),
            Err(over) => {
                driver = over;
                break;
            }
        }
        kills += 1;
    }
    driver.ended().with(0);
    let struck = story.emulator.calls().iter().filter(|call| call.fault.is_some()).count();
    println!("seed {seed}: killed {kills} times, {struck} requests struck, in {rules:?}");
    story.emulator.clear_all();
    let view = story.world.show("shop/2");
    for stage in view["stages"].as_array().unwrap() {
        assert_eq!((&stage["status"], &stage["attempts"]), (&json!("succeeded"), &json!(1)), "{stage:#}");
    }
    story.is_whole("staging", image(&view), 1);
    story.is_whole("production", image(&view), 2);
    story.nothing_else(&[image(&before), image(&view)]);
    story.floor_was_kept();
    story.end();
}

/// The number that a variable says.
fn said(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().unwrap())
}

#[test]
fn whatever_weather_and_kills_follow_from_a_seed() {
    let seeds = match (said("WINDLASS_SEED"), said("WINDLASS_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => DAILY.end..DAILY.end + count,
        (None, None) => DAILY,
    };
    for seed in seeds {
        let ended = std::panic::catch_unwind(|| shipped(seed));
        if let Err(why) = ended {
            println!(
                "again with: WINDLASS_SEED={seed} cargo test --test aws follow_from_a_seed -- --nocapture"
            );
            std::panic::resume_unwind(why);
        }
    }
}
