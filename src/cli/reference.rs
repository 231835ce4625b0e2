use std::io;

use super::{Exit, Io};
use crate::pipeline::REFERENCE;

/// Print a pipeline file in which every key appears, with what it means
///
/// It is a whole pipeline: `windlass reference > pipeline.yaml && windlass plan pipeline.yaml`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, io: &mut Io<'_>) -> io::Result<Exit> {
    io.out.write_all(REFERENCE.as_bytes())?;
    Ok(Exit::Good)
}
