//! What many runs, and many stages, cost each other. Measured in turns of drivers (each reads the clock),
//! and in the time of the processor that this thread alone took: twice as many may cost twice as much.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A clock that knows how often it was read.
struct Counting(ManualClock, AtomicU64);

impl Clock for Counting {
    fn now(&self) -> Timestamp {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.now()
    }
}

struct Crowd {
    world: World,
    clock: Arc<Counting>,
}

impl Crowd {
    fn new(world: World, slots: u32) -> Self {
        let clock = Arc::new(Counting(ManualClock::at(world.clock.now()), AtomicU64::new(0)));
        let scripts = world.script.subscribe();
        let parts = parts(world.directory.path(), &world.store, clock.clone(), &scripts);
        let engine = Engine::new(Parts { slots: Slots::new(slots), ..parts });
        Self { world: World { engine, ..world }, clock }
    }

    fn looked(&self) -> u64 {
        self.clock.1.load(Ordering::Relaxed)
    }
}

/// Holds that `many` things cost what as many of `few` do, and a bit.
#[track_caller]
fn assert_linear(few: (u64, u64), many: (u64, u64)) {
    assert!(growth(few, many) <= 1.5, "of {} it costs {}, of {} {}", few.0, few.1, many.0, many.1);
}

/// By how much each of many costs more than each of few. What is quadratic gives as much as there are more
/// of them.
fn growth(few: (u64, u64), many: (u64, u64)) -> f64 {
    (many.1 as f64 / many.0 as f64) / (few.1 as f64 / few.0 as f64)
}

/// Runs that wait for one environment, and leave one by one from the first.
async fn leaving(count: u64) -> u64 {
    let crowd = Crowd::new(World::with_manual_production(), 8);
    let world = &crowd.world;
    world.engine.lock(&"staging".parse().unwrap(), &actor("ada"), "watching").await.unwrap();
    for number in 1..=count {
        let run = world.push("every", number).await;
        world
            .until_waiting(&run, if number == 1 { "locked by ada" } else { "is ahead of it for staging" })
            .await;
    }
    let before = crowd.looked();
    for number in 1..=count {
        world.act(&run(number), Act::Cancel { reason: String::new() }, "ada").await.unwrap();
        world.until_ended(&run(number)).await;
    }
    crowd.looked() - before
}

#[tokio::test]
async fn who_leaves_a_line_wakes_the_next_and_nobody_else() {
    assert_linear((10, leaving(10).await), (60, leaving(60).await));
}

/// Runs that all go through one environment, one after the other.
async fn passing(count: u64) -> u64 {
    let crowd = Crowd::new(World::with_manual_production(), 8);
    let world = &crowd.world;
    world.hold(1, "build");
    for number in 1..=count {
        world.push("every", number).await;
    }
    world.until_waiting(&run(count), "is ahead of it for staging").await;
    world.release(1, "build");
    for number in 1..=count {
        world.until_waiting(&run(number), "promote it to production").await;
    }
    assert_eq!(world.deployed("staging").await, (1..=count).collect::<Vec<_>>());
    crowd.looked()
}

#[tokio::test]
async fn who_passes_an_environment_wakes_the_next_and_nobody_else() {
    assert_linear((10, passing(10).await), (60, passing(60).await));
}

/// Runs that wait for the only slot.
async fn queueing(count: u64) -> u64 {
    let crowd = Crowd::new(World::new("", ""), 1);
    let world = &crowd.world;
    world.hold(1, "build");
    let mut origin = world.origin("every", 1);
    origin.pipeline = "name: shop\nqueue: every\nstages: { build: { steps: [{ run: make }] } }".to_owned();
    for number in 1..=count {
        let created = world.create(origin.clone()).await;
        world.engine.drive(&created).await.unwrap();
        if number > 1 {
            world.until_waiting(&created, "waiting for a free slot").await;
        }
    }
    let before = crowd.looked();
    world.release(1, "build");
    let mut ended = Vec::new();
    for number in 1..=count {
        let view = world.until_ended(&run(number)).await;
        ended.push((view.stages[0].started_at, number));
    }
    assert!(ended.is_sorted(), "who waited longest was not the next: {ended:?}");
    crowd.looked() - before
}

#[tokio::test]
async fn the_end_of_a_step_wakes_the_next_in_the_queue_and_nobody_else() {
    assert_linear((10, queueing(10).await), (60, queueing(60).await));
}

/// What a promotion ships is found out again for whoever looks, and for nobody else: the others would ask
/// git, all at once and in vain.
#[tokio::test]
async fn a_rollout_wakes_nobody_who_waits_for_a_decision_until_somebody_looks() {
    const COUNT: u64 = 40;
    let crowd = Crowd::new(World::with_manual_production(), 8);
    let world = &crowd.world;
    for number in 1..=COUNT {
        let run = world.push("every", number).await;
        world.until_waiting(&run, "promote it to production").await;
    }
    let before = crowd.looked();
    world.promote(&run(1), "production", "ada").await.unwrap();
    world.until_ended(&run(1)).await;
    let turns = crowd.looked() - before;
    assert!(turns < COUNT, "{turns} turns for one rollout");
    let shows = |view: &RunView| {
        let image = view.gates.iter().find_map(|gate| gate.ships.running_image.as_ref());
        image.is_some_and(|image| image.as_str() == "image-of-1")
    };
    world.until(&run(30), "it shows what runs there by now", shows).await;
    world.promote(&run(30), "production", "ada").await.unwrap();
    assert_eq!(world.until_ended(&run(30)).await.status, Status::Succeeded);
}

/// A stage that does nothing, and is done.
struct Nothing;

#[async_trait]
impl Stage for Nothing {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        while attempt.passes_over_success() {}
        if let Next::Do(step) = attempt.next::<()>("Nothing").await? {
            attempt.finish(*step, Ok(())).await?;
        }
        Ok(Outcome::default())
    }

    fn stop_bound(&self, _: &Work) -> Duration {
        Duration::from_secs(10)
    }
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Each after the one before.
    Chain,
    /// All beside each other, half of them under a condition.
    Fan,
    /// Fifty in a row, each after three of the row before.
    Layers,
    /// A chain with values from its beginning, behind it an environment that waits for all of it.
    Ship,
}

impl Shape {
    fn pipeline(self, stages: usize) -> String {
        let mut text = "name: shop\nstages:\n".to_owned();
        for i in 0..stages {
            let needs: Vec<String> = match self {
                Self::Fan => Vec::new(),
                Self::Chain | Self::Ship => {
                    i.checked_sub(1).map(|before| format!("s{before}")).into_iter().collect()
                }
                Self::Layers if i < 50 => Vec::new(),
                Self::Layers => {
                    let row = i / 50 * 50 - 50;
                    (0..3).map(|n| format!("s{}", row + (i + n * 7) % 50)).collect()
                }
            };
            let _ = writeln!(text, "  s{i}:");
            if !needs.is_empty() {
                let _ = writeln!(text, "    needs: [{}]", needs.join(", "));
            }
            match self {
                Self::Fan if i % 2 == 0 => text.push_str("    if: run.trigger == 'push'\n"),
                Self::Ship if i > 0 => text.push_str("    env: { FIRST: '${{ stages.s0.status }}' }\n"),
                _ => {}
            }
            text.push_str("    steps: [{ run: ':' }]\n");
        }
        if let Self::Ship = self {
            let _ = writeln!(
                text,
                "  ship: {{ needs: s{}, environment: staging, steps: [{{ run: ':' }}] }}",
                stages - 1
            );
        }
        text
    }
}

/// The time that this thread has had the processor, in microseconds.
fn worked() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// What a pipeline of so many stages costs from its file to its end, in microseconds: reading, and
/// driving.
async fn stages(shape: Shape, count: usize) -> (u64, u64) {
    let world = World::new("", "");
    let scripts = world.script.subscribe();
    let parts = parts(world.directory.path(), &world.store, world.clock.clone(), &scripts);
    let nothing = |word| (word, Arc::new(Nothing) as Arc<dyn Stage>);
    let engine = Engine::new(Parts { stages: [nothing("script")].into(), ..parts });
    let world = World { engine, ..world };
    let mut origin = world.origin("every", 1);
    origin.pipeline = shape.pipeline(count);
    let begun = worked();
    let run = world.create(origin).await;
    let handle = world.engine.drive(&run).await.unwrap();
    let read = worked();
    handle.ended().await;
    let ended = worked();
    let view = world.engine.view(&run).await.unwrap();
    assert_eq!(view.status, Status::Succeeded, "{:?}", view.waiting_for);
    (read - begun, ended - read)
}

/// `WINDLASS_STAGES=5000` takes so many instead of 800, and prints what they cost. Eight times as many cost
/// eight times as much; who shares the processor makes up to twice that of it, and what is quadratic eight
/// times.
async fn assert_stages_linear(shape: Shape) {
    let most = std::env::var("WINDLASS_STAGES").ok().and_then(|count| count.parse().ok()).unwrap_or(800);
    let few = most / 8;
    let mut tries = 3;
    loop {
        let (of_few, of_many) = (stages(shape, few).await, stages(shape, most).await);
        eprintln!("{shape:?}: µs to read and to drive {few} stages: {of_few:?}, {most}: {of_many:?}");
        let (few, most) = (few as u64, most as u64);
        let reading = growth((few, of_few.0), (most, of_many.0));
        let driving = growth((few, of_few.1), (most, of_many.1));
        tries -= 1;
        if reading.max(driving) <= 3.0 {
            return;
        }
        assert!(
            tries > 0,
            "{shape:?}: reading a stage costs {reading:.1} times as much, driving it {driving:.1}"
        );
    }
}

#[tokio::test]
async fn a_stage_of_a_long_chain_costs_what_one_of_a_short_chain_does() {
    assert_stages_linear(Shape::Chain).await;
}

#[tokio::test]
async fn a_stage_of_a_wide_fan_costs_what_one_of_a_narrow_fan_does() {
    assert_stages_linear(Shape::Fan).await;
}

#[tokio::test]
async fn a_stage_among_many_layers_costs_what_one_among_few_does() {
    assert_stages_linear(Shape::Layers).await;
}

#[tokio::test]
async fn a_stage_on_a_long_way_to_an_environment_costs_what_one_on_a_short_way_does() {
    assert_stages_linear(Shape::Ship).await;
}
