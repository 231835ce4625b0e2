//! All figures, beside what people would use instead.
//!
//! `cargo bench --no-default-features --bench figures` prints the table and writes JSON and pictures.
//! Words choose rows: `-- steps webhooks`; of the others what came out last is kept. `--rounds N`, `--out
//! DIRECTORY`, `--list`. `--write` puts what came out into `benches/results`, and the tables into the documents.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Instant;

use self::bench::Bench;
use self::report::Case;

mod bench;
mod documents;
mod fill;
mod hook;
mod load;
mod measure;
mod multiply;
mod peers;
mod plot;
mod report;
mod rows;
mod run;
mod server;
mod target;

struct Options {
    rows: Vec<String>,
    rounds: usize,
    /// Where JSON and pictures go.
    out: PathBuf,
    /// They become what the documents show.
    write: bool,
    list: bool,
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(peers::bare::WORD) {
        return peers::bare::serve();
    }
    if let Some(port) = target::asked() {
        return target::serve(port);
    }
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\nrows: {}", rows::ALL.iter().map(|row| row.name).collect::<Vec<_>>().join(", "));
            std::process::exit(2);
        }
    };
    if options.list {
        for row in rows::ALL {
            println!("{:<14} {}", row.name, row.what);
        }
        return;
    }
    let bench = Bench::new(options.rounds).expect("a directory for the benchmarks");
    let begun = Instant::now();
    let mut cases: Vec<Case> = Vec::new();
    // One that cannot be measured takes none of the others with it.
    let mut failed: Vec<&str> = Vec::new();
    for row in rows::ALL {
        if !options.rows.is_empty() && !options.rows.iter().any(|name| name == row.name) {
            continue;
        }
        let since = Instant::now();
        eprintln!("{}: {}", row.name, row.what);
        match std::panic::catch_unwind(AssertUnwindSafe(|| (row.measure)(&bench))) {
            Ok(measured) => cases.extend(measured),
            Err(_) => failed.push(row.name),
        }
        eprintln!("{}: {:.0} s", row.name, since.elapsed().as_secs_f64());
    }
    println!("{}", report::table(&cases));
    println!("{:.0} s in all, on {}", begun.elapsed().as_secs_f64(), documents::machine());
    if let Err(error) = keep(cases, &options) {
        eprintln!("what came out cannot be kept: {error}");
        std::process::exit(1);
    }
    if !failed.is_empty() {
        eprintln!("not measured: {}", failed.join(", "));
        std::process::exit(1);
    }
}

/// Keeps what came out. Of rows that were not measured what came out last stays.
fn keep(cases: Vec<Case>, options: &Options) -> std::io::Result<()> {
    std::fs::create_dir_all(&options.out)?;
    let json = options.out.join("figures.json");
    let before: Vec<Case> = match std::fs::read(&json) {
        Ok(before) => serde_json::from_slice(&before)?,
        Err(_) => Vec::new(),
    };
    let (mut before, mut cases) = (before, cases);
    before.retain(|case| !cases.iter().any(|new| new.row == case.row));
    cases.extend(before);
    cases.sort_by_key(|case| rows::ALL.iter().position(|row| row.name == case.row));
    std::fs::write(&json, serde_json::to_vec_pretty(&cases)?)?;
    let pictures = plot::draw(&cases, &options.out)?;
    println!("as JSON: {}", json.display());
    if !pictures.is_empty() {
        println!("how cost grows: {} in {}", pictures.join(", "), options.out.display());
    }
    if options.write { documents::write(&cases, &pictures) } else { Ok(()) }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        rows: Vec::new(),
        rounds: 3,
        out: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("figures"),
        write: false,
        list: false,
    };
    // Cargo itself adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--list" => options.list = true,
            "--out" => options.out = value()?.into(),
            "--write" => {
                options.write = true;
                options.out = documents::results();
            }
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
