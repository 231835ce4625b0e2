//! All figures, beside what people would use instead.
//!
//! `cargo bench --no-default-features --bench figures` prints the table and writes JSON and pictures.
//! Words choose rows: `-- steps webhooks`. `--rounds N`, `--json FILE`, `--plots DIRECTORY`, `--list`.

use std::path::PathBuf;
use std::time::Instant;

use self::bench::Bench;
use self::report::Case;

mod bench;
mod fill;
mod load;
mod measure;
mod multiply;
mod plot;
mod report;
mod rows;
mod server;

struct Options {
    rows: Vec<String>,
    rounds: usize,
    json: PathBuf,
    plots: PathBuf,
    list: bool,
}

fn main() {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\nrows: {}", rows::ALL.map(|row| row.name).join(", "));
            std::process::exit(2);
        }
    };
    if options.list {
        for row in &rows::ALL {
            println!("{:<14} {}", row.name, row.what);
        }
        return;
    }
    let bench = Bench::new(options.rounds).expect("a directory for the benchmarks");
    let begun = Instant::now();
    let mut cases: Vec<Case> = Vec::new();
    for row in &rows::ALL {
        if !options.rows.is_empty() && !options.rows.iter().any(|name| name == row.name) {
            continue;
        }
        let since = Instant::now();
        eprintln!("{}: {}", row.name, row.what);
        cases.extend((row.measure)(&bench));
        eprintln!("{}: {:.0} s", row.name, since.elapsed().as_secs_f64());
    }
    println!("{}", report::table(&cases));
    println!("{:.0} s in all", begun.elapsed().as_secs_f64());
    let json = serde_json::to_vec_pretty(&cases).expect("figures as JSON");
    match std::fs::write(&options.json, json) {
        Ok(()) => println!("as JSON: {}", options.json.display()),
        Err(error) => eprintln!("{}: {error}", options.json.display()),
    }
    match plot::draw(&cases, &options.plots) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => println!("how cost grows: {} in {}", names.join(", "), options.plots.display()),
        Err(error) => eprintln!("{}: {error}", options.plots.display()),
    }
}

fn options() -> Result<Options, String> {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("figures");
    let _ = std::fs::create_dir_all(&directory);
    let mut options = Options {
        rows: Vec::new(),
        rounds: 5,
        json: directory.join("figures.json"),
        plots: directory,
        list: false,
    };
    // Cargo itself adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--list" => options.list = true,
            "--json" => options.json = value()?.into(),
            "--plots" => options.plots = value()?.into(),
            "--rounds" => {
                let count: Option<usize> = value()?.parse().ok().filter(|count| *count > 0);
                options.rounds = count.ok_or("--rounds needs a number from 1")?;
            }
            name if rows::ALL.iter().any(|row| row.name == name) => options.rows.push(word),
            other => return Err(format!("there is no row {other}")),
        }
    }
    Ok(options)
}
