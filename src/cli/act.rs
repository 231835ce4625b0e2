//! What `promote`, `reject` and `cancel` have in common: something is asked of a run, and recorded,
//! whoever holds the data directory.

use std::path::Path;

use super::Error;
use super::reach::{Driver, Reach, Where, driver, no_run, reach};
use crate::config::Settings;
use crate::engine;
use crate::ids::RunId;
use crate::journal;
use crate::run::command::Act;
use crate::run::event::Actor;
use crate::run::view::RunView;

/// An act that is recorded.
pub struct Recorded {
    /// The run right afterwards.
    pub view: RunView,
    /// The command that carries it on, where nobody drives the run.
    pub next: Option<String>,
}

/// Records the act; it is durable when this returns. `what` tells a second holder who we are.
pub async fn record(
    place: &Where,
    what: &str,
    run: &RunId,
    act: Act,
    actor: Actor,
) -> Result<Recorded, Error> {
    let asked = place.place()?;
    // Before the directory is taken, which would make it.
    if let Reach::Stored(None) = reach(&asked).await? {
        return Err(no_run(run, &asked));
    }
    let (view, driven) = match driver(&asked, what, &Settings::default()).await? {
        Driver::Holder(client) => {
            let acted = client.act(run, &act, &actor).await?;
            (acted.run, acted.driven)
        }
        Driver::Us(house) => {
            let view = record_here(&house.engine, &house.data, run, act, actor).await;
            house.close().await?;
            (view?, false)
        }
    };
    let next =
        (!driven && !view.status.is_final()).then(|| format!("windlass resume {run}{}", place.suffix()));
    Ok(Recorded { view, next })
}

async fn record_here(
    engine: &engine::Engine,
    data: &Path,
    run: &RunId,
    act: Act,
    actor: Actor,
) -> Result<RunView, Error> {
    match engine.act(run, act, actor).await {
        Err(engine::Error::Journal(journal::Error::NoRun(_))) => return Err(no_run(run, data)),
        done => done?,
    }
    let idle = crate::http::interrupted(run);
    Ok(engine::view_of_journal(engine.store().as_ref(), run, Some(&idle)).await?)
}
