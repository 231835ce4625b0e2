//! A server with many runs: how long it takes to be ready, what it costs to wait, and how long its pages
//! take. The directory is filled by a generator, through the store's own code.
//!
//! `cargo bench --bench many -- HISTORY IN_FLIGHT [FLEETS [ROLLOUTS]]`, on the disk of the target
//! directory. With `--keep DIR` the directory is filled unless it is there, and kept.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::fill::Sizes;
use self::server::Server;

mod fill;
mod server;

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let keep = words.iter().position(|word| word == "--keep").map(|place| {
        words.remove(place);
        PathBuf::from(words.remove(place))
    });
    let numbers: Vec<u64> = words.iter().map(|word| word.parse().expect("a number")).collect();
    let number = |n: usize, otherwise| numbers.get(n).copied().unwrap_or(otherwise);
    let sizes = Sizes {
        history: number(0, 10_000),
        in_flight: number(1, 1_000),
        fleets: number(2, 10),
        rollouts: number(3, 100),
    };

    let passing = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let data = keep.unwrap_or_else(|| passing.path().join("data"));
    println!("{sizes:?}");
    if !data.join("windlass.db").exists() {
        std::fs::create_dir_all(&data).expect("a directory");
        std::fs::write(data.join("windlass.yaml"), fill::SETTINGS).expect("the settings");
        let begun = Instant::now();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(fill::fill(&data, sizes)).expect("a filled directory");
        let bytes = std::fs::metadata(data.join("windlass.db")).expect("a database").len();
        println!("filled in {:.1?}, {} MB", begun.elapsed(), bytes >> 20);
    }
    measure(&data, sizes);
}

fn measure(data: &std::path::Path, sizes: Sizes) {
    let server = Server::start(data);
    println!("ready after        {:>10.3?}, {:.2?} of a processor", server.ready_after, server.cost().cpu);
    println!("at rest after      {:>10.3?}", server.rest());
    let before = server.cost();
    println!("memory             {:>7.0} MB", before.memory);
    const WINDOW: Duration = Duration::from_secs(10);
    std::thread::sleep(WINDOW);
    let after = server.cost();
    let share = (after.cpu - before.cpu).as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
    println!("idle, 10 s         {share:>7.1} % of a core, {} wake-ups", after.waits - before.waits);

    println!("\n{:<52} {:>10} {:>10} {:>10}", "", "p50", "p99", "cpu each");
    let middle = sizes.history / 20;
    let pages = [
        "/healthz".to_owned(),
        "/api/v1/runs?limit=50".to_owned(),
        "/runs".to_owned(),
        format!("/runs?before=service-3/{middle}"),
        "/runs?status=failed".to_owned(),
        "/runs?status=running".to_owned(),
        format!("/runs?status=cancelled&before=service-3/{middle}"),
        "/runs?pipeline=service-3".to_owned(),
        format!("/runs?pipeline=service-3&status=failed&before=service-3/{middle}"),
        "/runs?pipeline=gate&status=waiting".to_owned(),
        "/deliveries".to_owned(),
        "/deliveries?status=handled".to_owned(),
        format!("/api/v1/runs/service-3/{middle}"),
        "/api/v1/runs/gate/1".to_owned(),
        "/api/v1/runs/line/2".to_owned(),
        "/api/v1/fleets".to_owned(),
        "/".to_owned(),
    ];
    const TIMES: usize = 100;
    for page in &pages {
        if sizes.in_flight == 0 && ["gate", "line"].iter().any(|name| page.contains(name)) {
            continue;
        }
        // A page that takes seconds is not asked for a hundred times.
        let once = Instant::now();
        let _ = server.get(page);
        let times = if once.elapsed() > Duration::from_millis(200) { 5 } else { TIMES };
        let before = server.cost();
        let (middle, worst) = server.times(page, times);
        let cpu = (server.cost().cpu - before.cpu) / times as u32;
        println!("{page:<52} {middle:>10.2?} {worst:>10.2?} {cpu:>10.2?}");
    }
    if sizes.in_flight > 0 {
        acts(&server);
    }
}

/// What somebody does, and what it makes the server do until it rests again.
fn acts(server: &Server) {
    println!("\n{:<52} {:>10} {:>21}", "", "answered", "cpu until at rest");
    let act = |what: &str, path: &str, body: &str| {
        server.rest();
        let (before, begun) = (server.cost(), Instant::now());
        let answer = server.ask("POST", path, body);
        let took = begun.elapsed();
        // A directory that was kept has seen it before.
        if answer.starts_with("HTTP/1.1 409") {
            return println!("{what:<52} {:>10}", "refused");
        }
        assert!(answer.starts_with("HTTP/1.1 20"), "{what}: {answer}");
        server.rest();
        println!("{what:<52} {took:>10.2?} {:>21.2?}", server.cost().cpu - before.cpu);
    };
    let order = |act: &str| {
        format!(
            "{{\"act\":\"{act}\",\"actor\":\"octocat\",\"reason\":\"many\",\"environment\":\"production\"}}"
        )
    };
    act("cancel one at a gate", "/api/v1/runs/gate/2/acts", &order("cancel"));
    act("cancel one in the middle of the line", "/api/v1/runs/line/3/acts", &order("cancel"));
    act("cancel the first of the line", "/api/v1/runs/line/1/acts", &order("cancel"));
    act("cancel one that waits for a slot", "/api/v1/runs/slot/9/acts", &order("cancel"));
    act("promote one", "/api/v1/runs/gate/3/acts", &order("promote"));
    act("cancel what holds the slot", "/api/v1/runs/slot/1/acts", &order("cancel"));
}
