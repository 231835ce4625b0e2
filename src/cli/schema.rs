use std::io;

use super::{Exit, Io};
use crate::pipeline::schema;

/// Print the JSON Schema of the pipeline file, for editors
///
/// With the YAML language server, a file that starts with
/// `# yaml-language-server: $schema=windlass.schema.json` is completed and checked while it is written.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, io: &mut Io<'_>) -> io::Result<Exit> {
    writeln!(io.out, "{:#}", schema::pipeline())?;
    Ok(Exit::Good)
}
