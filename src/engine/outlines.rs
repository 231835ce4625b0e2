//! The pipelines of the driven runs, each text read once: ten thousand runs of one pipeline cost its graph
//! once, and its reading.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::ids::{Digest, RunId};
use crate::run::event::{Origin, Trigger};
use crate::run::fold::Illegal;
use crate::run::outline::Outline;

/// So many are kept at least, whether anybody needs them or not.
const KEPT: usize = 64;

#[derive(Default)]
pub(super) struct Outlines(Mutex<Known>);

#[derive(Default)]
struct Known {
    texts: HashMap<Digest, Outline>,
    /// What nobody needs goes when there are more than this.
    limit: usize,
}

impl Outlines {
    /// The outline of the run's pipeline.
    pub fn of(&self, run: &RunId, origin: &Origin) -> Result<Outline, Illegal> {
        // Made for the run itself, and of no text.
        if matches!(origin.trigger, Trigger::Rollback { .. }) {
            return Outline::of(run, origin);
        }
        let text = Digest::of(format!("{}\0{}", origin.pipeline_path, origin.pipeline).as_bytes());
        if let Some(known) = self.known().texts.get(&text) {
            return Ok(known.clone());
        }
        let read = Outline::of(run, origin)?;
        let mut known = self.known();
        if known.texts.len() >= known.limit.max(KEPT) {
            known.texts.retain(|_, outline| outline.is_shared());
            known.limit = 2 * known.texts.len();
        }
        Ok(known.texts.entry(text).or_insert(read).clone())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
