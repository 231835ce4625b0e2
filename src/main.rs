use clap::Parser;

#[derive(clap::Parser)]
enum Command {
    #[command(hide = true)]
    Runner(windlass::cli::runner::Args),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Runner(args) => windlass::cli::runner::run(&args),
    }
}
