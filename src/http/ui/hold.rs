//! What people decide on a fleet's page: roll back, lock, unlock, lift a quarantine.

use axum::extract::{Path, State};
use axum::response::{Redirect, Response};
use serde::Deserialize;

use super::fleet::{self, named, path};
use super::form::Posted;
use super::{Typed, run};
use crate::engine::{self, Target};
use crate::http::{Api, Problem};
use crate::ids::FleetId;
use crate::journal::load_fleet;
use crate::run::event::Actor;

#[derive(Debug, Deserialize)]
pub struct Back {
    /// The image that the page showed as running.
    shown: String,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
pub struct Lock {
    #[serde(default)]
    reason: String,
    /// `fleet` or `environment`.
    what: String,
}

#[derive(Debug, Deserialize)]
pub struct Lift {
    image: String,
    #[serde(default)]
    reason: String,
}

type Named = Path<(String, String)>;

/// A form's own address, opened again, is the page the form stands on.
pub async fn back(Path(names): Named) -> Result<Redirect, Problem> {
    Ok(Redirect::to(&path(&named(names)?)))
}

pub async fn rollback(
    State(api): State<Api>,
    Path(names): Named,
    posted: Posted<Back>,
) -> Result<Response, Problem> {
    let id = named(names)?;
    let Back { shown, reason } = &posted.form;
    let begun = async {
        let actor = posted.actor()?;
        let state = load_fleet(api.engine.store().as_ref(), &id).await.map_err(engine::Error::from)?;
        if state.current.as_ref().is_none_or(|current| current.image.id.as_str() != shown) {
            let changed = format!("{id} does not run any more what the page showed: look again, then decide");
            return Err(engine::Error::NotNow(changed).into());
        }
        let run = api.engine.rollback(&id, &actor, reason).await?;
        api.engine.drive(&run).await?;
        Ok(run)
    };
    match begun.await {
        Ok(run) => Ok(posted.back(&run::path(&run), "rolling-back")),
        Err(problem) => fleet::refused(&api, posted.who(), &id, problem, typed("rollback", reason)).await,
    }
}

pub async fn lock(
    State(api): State<Api>,
    Path(names): Named,
    posted: Posted<Lock>,
) -> Result<Response, Problem> {
    let id = named(names)?;
    let Lock { reason, what } = &posted.form;
    let act = async |actor: Actor| Ok(api.engine.lock(&target(&id, what)?, &actor, reason).await?);
    done(&api, &id, &posted, act, "locked", typed("lock", reason)).await
}

pub async fn unlock(
    State(api): State<Api>,
    Path(names): Named,
    posted: Posted<Lock>,
) -> Result<Response, Problem> {
    let id = named(names)?;
    let what = &posted.form.what;
    let act = async |actor: Actor| Ok(api.engine.unlock(&target(&id, what)?, &actor).await?);
    done(&api, &id, &posted, act, "unlocked", Vec::new()).await
}

pub async fn lift(
    State(api): State<Api>,
    Path(names): Named,
    posted: Posted<Lift>,
) -> Result<Response, Problem> {
    let id = named(names)?;
    let Lift { image, reason } = &posted.form;
    let act = async |actor: Actor| {
        api.engine.lift(&id.service, image, &actor, reason).await?;
        Ok(())
    };
    done(&api, &id, &posted, act, "lifted", typed(&format!("lift.{image}"), reason)).await
}

fn target(fleet: &FleetId, what: &str) -> Result<Target, Problem> {
    match what {
        "fleet" => Ok(Target::Fleet(fleet.clone())),
        "environment" => Ok(Target::Environment(fleet.environment.clone())),
        other => Err(Problem::request(format!("{other:?} is nothing to lock"))),
    }
}

fn typed(field: &str, text: &str) -> Typed {
    vec![(field.to_owned(), text.to_owned())]
}

/// Carries it out; back to the page, or the page with the refusal.
async fn done<T>(
    api: &Api,
    id: &FleetId,
    posted: &Posted<T>,
    act: impl AsyncFnOnce(Actor) -> Result<(), Problem>,
    said: &str,
    typed: Typed,
) -> Result<Response, Problem> {
    let acted = match posted.actor() {
        Ok(actor) => act(actor).await,
        Err(problem) => Err(problem),
    };
    match acted {
        Ok(()) => Ok(posted.back(&path(id), said)),
        Err(problem) => fleet::refused(api, posted.who(), id, problem, typed).await,
    }
}
