use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "windlass", version)]
enum Command {
    #[command(hide = true)]
    Balancer(windlass::cli::balancer::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Balancer(args) => windlass::cli::balancer::run(args),
    }
}
