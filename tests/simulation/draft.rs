//! What a seed makes up: pipelines, settings, runs, what people do, and what goes wrong.

use std::fmt::Write as _;
use std::time::Duration;

use crate::random::Random;

/// How a cloud behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// Everything happens at once, and is seen at once.
    Local,
    /// Everything takes its time, and is seen late by whoever did not do it.
    Distant,
}

/// How often things go wrong, of a thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chaos {
    /// The process dies, before or after what it does.
    pub crash: u64,
    /// A write to the store fails, done or not.
    pub store: u64,
    /// A read does.
    pub read: u64,
    /// A call of a cloud: of a hundred.
    pub cloud: u8,
    /// The runner cannot be reached.
    pub runner: u64,
    /// The next process begins before the one before has noticed.
    pub overlap: bool,
}

/// Something that happens from outside.
#[derive(Debug, Clone)]
pub enum Whim {
    Start {
        pipeline: usize,
        commit: u64,
        reference: Option<&'static str>,
        key: String,
    },
    Cancel {
        nth: u64,
    },
    Replay {
        nth: u64,
        how: u64,
    },
    Reject {
        nth: u64,
    },
    /// Every gate that somebody waits at.
    Promote,
    Lock {
        environment: usize,
    },
    Unlock {
        environment: usize,
    },
    Rollback {
        pipeline: usize,
        environment: usize,
    },
    Kill,
    LoseRunner,
    Jump {
        seconds: i64,
    },
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub weather: Weather,
    pub temper: Temper,
    pub chaos: Chaos,
    /// Name and text.
    pub pipelines: Vec<(&'static str, String)>,
    pub settings: String,
    pub slots: u32,
    /// Whether the process keeps fleets alive.
    pub keeps: bool,
    /// In the order of their times.
    pub whims: Vec<(Duration, Whim)>,
    /// From then on nothing goes wrong any more.
    pub quiet_at: Duration,
    /// When there is no room in the cloud, from and to.
    pub no_room: Vec<(Duration, Duration)>,
}

pub const ENVIRONMENTS: [&str; 2] = ["staging", "production"];
pub const NAMES: [&str; 2] = ["shop", "depot"];
const CONDITIONS: [&str; 5] = ["always()", "failure()", "success()", "run.number != 2", "always() && true"];

/// What happens to the first thing that goes on, where everything else goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Any,
    /// Nothing goes wrong by itself, and nobody does anything but what is needed.
    Fair,
}

impl Scenario {
    pub fn of(seed: u64, weather: Weather) -> Self {
        let mut random = Random::of(seed, "scenario");
        let temper = *random.pick(&[Temper::Local, Temper::Distant]);
        let rate = |random: &mut Random, rates: &[u64]| *random.pick(rates);
        let chaos = match weather {
            Weather::Fair => Chaos::default(),
            Weather::Any => Chaos {
                crash: rate(&mut random, &[0, 0, 1, 3, 10, 30]),
                store: rate(&mut random, &[0, 0, 5, 30, 100]),
                read: rate(&mut random, &[0, 0, 0, 2, 10]),
                cloud: rate(&mut random, &[0, 0, 3, 10]) as u8,
                runner: rate(&mut random, &[0, 0, 0, 20]),
                overlap: random.chance(200),
            },
        };
        let delivers = random.chance(600);
        let environments: Vec<Draft> = ENVIRONMENTS.iter().map(|_| Draft::of(&mut random, temper)).collect();
        let count = if random.chance(250) { 2 } else { 1 };
        let pipelines =
            (0..count).map(|n| (NAMES[n], pipeline(&mut random, NAMES[n], delivers, weather))).collect();
        let quiet_at = Duration::from_secs(random.between(10, 60) * 60);
        let mut whims = whims(&mut random, count, quiet_at, weather);
        whims.sort_by_key(|(at, _)| *at);
        let windows = if weather == Weather::Any && random.chance(200) { random.below(3) } else { 0 };
        let no_room = (0..windows).map(|_| {
            let from = Duration::from_secs(random.below(3600));
            (from, from + Duration::from_secs(random.between(60, 1800)))
        });
        Self {
            no_room: no_room.collect(),
            weather,
            temper,
            chaos,
            pipelines,
            settings: settings(&environments),
            slots: random.between(1, 4) as u32,
            keeps: random.chance(700),
            whims,
            quiet_at,
        }
    }
}

/// An environment's fleets.
struct Draft {
    manual: bool,
    size: u64,
    strategy: String,
    interval: u64,
    drain: u64,
    patience: u64,
}

impl Draft {
    fn of(random: &mut Random, temper: Temper) -> Self {
        let size = random.between(1, 5);
        let strategy = match random.below(4) {
            0 => format!("{{ blue_green: {{ hold: {}s }} }}", *random.pick(&[0, 0, 60, 600])),
            _ => {
                let floor = if random.chance(300) { random.below(size + 1) } else { size };
                let (batch, surge) = (random.between(1, 3), random.between(1, 3));
                format!("{{ rolling: {{ batch: {batch}, surge: {surge}, floor: {floor} }} }}")
            }
        };
        let (interval, patience) = match temper {
            Temper::Local => (random.between(1, 5), random.between(60, 120)),
            Temper::Distant => (random.between(5, 30), random.between(400, 900)),
        };
        Self { manual: random.chance(400), size, strategy, interval, drain: random.below(120), patience }
    }
}

fn settings(environments: &[Draft]) -> String {
    let mut text = "environments:\n".to_owned();
    for (n, (name, draft)) in ENVIRONMENTS.iter().zip(environments).enumerate() {
        let Draft { manual, size, strategy, interval, drain, patience } = draft;
        let group = if n == 0 { "qa" } else { "production" };
        let _ = writeln!(text, "  {name}:\n    group: {group}");
        if *manual {
            let _ = writeln!(text, "    promotion: manual");
        }
        let _ = writeln!(text, "    fleets:");
        for (m, service) in NAMES.iter().enumerate() {
            let port = 17_000 + 10 * n + m;
            let _ = writeln!(
                text,
                "      {service}: {{ cloud: local, size: {size}, port: {port}, drain: {drain}s, \
                 patience: {patience}s, health: {{ path: /, interval: {interval}s }}, strategy: {strategy} }}"
            );
        }
    }
    text
}

fn pipeline(random: &mut Random, name: &str, delivers: bool, weather: Weather) -> String {
    let queue = random.pick(&["newest", "every"]);
    let mut text = format!("name: {name}\nqueue: {queue}\nstages:\n");
    let mut known: Vec<String> = Vec::new();
    if delivers {
        deliver(random, &mut text, &mut known, weather);
    }
    let more = if delivers { random.below(3) } else { random.between(1, 7) };
    for n in 0..more {
        let stage = format!("s{n}");
        let needs: Vec<&str> = known.iter().filter(|_| random.chance(350)).map(String::as_str).collect();
        let steps = steps(random, "true");
        let _ = write!(text, "  {stage}: {{ {steps}{}", list("needs", &needs));
        if random.chance(200) {
            let _ = write!(text, ", if: {}", random.pick(&CONDITIONS));
        }
        if random.chance(250) {
            let _ = write!(text, ", environment: {}", random.pick(&ENVIRONMENTS));
        }
        let _ = writeln!(text, "{} }}", policy(random, weather));
        known.push(stage);
    }
    text
}

/// From a build to production, as far as the seed says.
fn deliver(random: &mut Random, text: &mut String, known: &mut Vec<String>, weather: Weather) {
    let mut add = |line: String| {
        known.push(line.split(':').next().unwrap_or_default().trim().to_owned());
        let _ = writeln!(text, "  {line}");
    };
    add(format!(
        "build: {{ {}, artifacts: {{ app: dist/ }}{} }}",
        steps(random, "make dist/app"),
        policy(random, weather)
    ));
    add(format!(
        "upload: {{ uses: upload, needs: build, with: {{ artifact: app }}{} }}",
        policy(random, weather)
    ));
    let provision: Vec<&str> = (0..random.below(3)).map(|_| "{ run: ./provision }").collect();
    let from = if random.chance(300) { "from: production, " } else { "" };
    add(format!(
        "bake: {{ uses: bake, needs: upload, with: {{ {from}start: ./app{} }}{} }}",
        list("provision", &provision),
        policy(random, weather)
    ));
    let mut last = "bake";
    if random.chance(700) {
        add(format!(
            "try: {{ uses: deploy, needs: {last}, environment: staging{} }}",
            rollout_policy(random)
        ));
        last = "try";
        if random.chance(700) {
            add(format!(
                "e2e: {{ {}, needs: {last}, environment: staging{} }}",
                steps(random, "true"),
                policy(random, weather)
            ));
            last = "e2e";
        }
    }
    add(format!("certify: {{ uses: certify, needs: {last} }}"));
    add(format!(
        "ship: {{ uses: deploy, needs: certify, environment: production{} }}",
        rollout_policy(random)
    ));
}

fn policy(random: &mut Random, weather: Weather) -> String {
    let mut text = String::new();
    if random.chance(500) {
        let on = random.pick(&[
            "infrastructure",
            "infrastructure, timeout",
            "task",
            "infrastructure, task, timeout",
        ]);
        let _ = write!(text, ", retry: {{ attempts: {}, on: [{on}] }}", random.between(2, 4));
    }
    if weather == Weather::Any && random.chance(250) {
        let _ = write!(text, ", timeout: {}s", *random.pick(&[5, 30, 120, 900]));
    }
    text
}

fn rollout_policy(random: &mut Random) -> String {
    let retry = if random.chance(300) { ", retry: { attempts: 2, on: [infrastructure] }" } else { "" };
    let timeout = if random.chance(200) { ", timeout: 5m" } else { ", timeout: 8h" };
    format!("{retry}{timeout}")
}

fn steps(random: &mut Random, last: &str) -> String {
    let mut steps: Vec<String> =
        (0..random.below(3)).map(|n| format!("{{ name: step {n}, run: work }}")).collect();
    steps.push(format!("{{ name: last, run: {last} }}"));
    format!("steps: [{}]", steps.join(", "))
}

/// A list may not be empty.
fn list(key: &str, items: &[&str]) -> String {
    if items.is_empty() { String::new() } else { format!(", {key}: [{}]", items.join(", ")) }
}

fn whims(random: &mut Random, pipelines: usize, until: Duration, weather: Weather) -> Vec<(Duration, Whim)> {
    let mut whims = Vec::new();
    let some_time =
        |random: &mut Random| Duration::from_millis(random.below(until.as_millis() as u64 * 9 / 10));
    let references = [Some("refs/heads/main"), Some("refs/heads/main"), Some("refs/heads/other"), None];
    let runs = if weather == Weather::Fair { random.between(1, 2) } else { random.between(1, 5) };
    for n in 0..runs {
        let at = if n == 0 { Duration::ZERO } else { some_time(random) / 2 };
        let (pipeline, commit) = (random.below(pipelines as u64) as usize, random.between(1, 9));
        let reference = *random.pick(&references);
        whims.push((at, Whim::Start { pipeline, commit, reference, key: format!("start-{n}") }));
    }
    for n in 1..=(until.as_secs() / 300) {
        whims.push((Duration::from_secs(n * 300 + random.below(200)), Whim::Promote));
    }
    if weather == Weather::Fair {
        return whims;
    }
    for _ in 0..random.below(6) {
        let whim = match random.below(12) {
            0..4 => Whim::Cancel { nth: random.below(5) },
            4..7 => Whim::Replay { nth: random.below(5), how: random.next() },
            7 => Whim::Reject { nth: random.below(5) },
            8 => Whim::Lock { environment: random.below(2) as usize },
            9 => Whim::Unlock { environment: random.below(2) as usize },
            _ => Whim::Rollback {
                pipeline: random.below(pipelines as u64) as usize,
                environment: random.below(2) as usize,
            },
        };
        let at = some_time(random);
        // Whoever cancels often does so because something is wrong with the process too.
        if matches!(whim, Whim::Cancel { .. }) && random.chance(500) {
            whims.push((at + Duration::from_millis(random.below(8000)), Whim::Kill));
        }
        whims.push((at, whim));
    }
    for _ in 0..random.below(4) {
        let whim = match random.below(6) {
            0..3 => Whim::Kill,
            3..5 => Whim::LoseRunner,
            _ => Whim::Jump { seconds: random.between(0, 7200) as i64 - 3600 },
        };
        whims.push((some_time(random), whim));
    }
    whims
}
