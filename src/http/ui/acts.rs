//! What people decide on a run's page.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::form::Posted;
use super::{Typed, run, text};
use crate::http::extract::Run;
use crate::http::look::look;
use crate::http::{Api, Problem};
use crate::ids::{EnvironmentName, RunId, StageName};
use crate::run::command::{Act, Refusal};
use crate::run::event::Edit;
use crate::run::replay::Selection;

/// What a page says after a form: the word in its address, and the sentence.
pub const SAID: &[(&str, &str)] = &[
    ("promoted", "Your promotion is recorded."),
    ("rejected", "Your rejection is recorded."),
    ("cancelled", "The run is being cancelled."),
    ("replayed", "The run is being replayed."),
    ("locked", "It is locked: no run enters until somebody unlocks it."),
    ("unlocked", "It is unlocked."),
    ("lifted", "The quarantine is lifted."),
    ("rolling-back", "This run takes the fleet back."),
    ("triggered", "This run is started."),
    ("again", "It was handled again: below is what came of it."),
];

/// A decision at a gate.
#[derive(Debug, Deserialize)]
pub struct Decision {
    environment: EnvironmentName,
    /// What the page showed that it was about; see [`text::shown`].
    shown: String,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
pub struct Cancel {
    #[serde(default)]
    reason: String,
}

/// What is to be done again.
#[derive(Debug, Deserialize)]
pub struct Again {
    /// `failed`, `stage NAME` or `from NAME`.
    what: String,
    /// A change on each line, `params.flavour=plain`.
    #[serde(default)]
    set: String,
}

impl Again {
    fn act(&self) -> Result<Act, Problem> {
        let name = |name: &str| name.parse::<StageName>().map_err(Problem::request);
        let selection = match self.what.split_once(' ') {
            None if self.what == "failed" => Selection::Failed,
            Some(("stage", stage)) => Selection::Stage(name(stage)?),
            Some(("from", stage)) => Selection::From(name(stage)?),
            _ => return Err(Problem::request(format!("{:?} is nothing to replay", self.what))),
        };
        let lines = self.set.lines().map(str::trim).filter(|line| !line.is_empty());
        let edits = lines.map(|line| line.parse::<Edit>().map_err(Problem::request));
        Ok(Act::Replay { selection, edits: edits.collect::<Result<_, _>>()? })
    }
}

/// A form's own address, opened again, is the page the form stands on.
pub async fn back(Run(run): Run) -> Redirect {
    Redirect::to(&run::path(&run))
}

pub async fn promote(
    State(api): State<Api>,
    Run(run): Run,
    posted: Posted<Decision>,
) -> Result<Response, Problem> {
    let act = Act::Promote { environment: posted.form.environment.clone() };
    let current = is_current(&api, &run, &posted.form).await;
    done(&api, &run, &posted, current.map(|()| act), "promoted", Vec::new()).await
}

pub async fn reject(
    State(api): State<Api>,
    Run(run): Run,
    posted: Posted<Decision>,
) -> Result<Response, Problem> {
    let Decision { environment, reason, .. } = &posted.form;
    let act = Act::Reject { environment: environment.clone(), reason: reason.clone() };
    let current = is_current(&api, &run, &posted.form).await;
    let typed = vec![(format!("reject.{environment}"), reason.clone())];
    done(&api, &run, &posted, current.map(|()| act), "rejected", typed).await
}

pub async fn cancel(
    State(api): State<Api>,
    Run(run): Run,
    posted: Posted<Cancel>,
) -> Result<Response, Problem> {
    let reason = &posted.form.reason;
    let typed = vec![("cancel".to_owned(), reason.clone())];
    done(&api, &run, &posted, Ok(Act::Cancel { reason: reason.clone() }), "cancelled", typed).await
}

pub async fn replay(
    State(api): State<Api>,
    Run(run): Run,
    posted: Posted<Again>,
) -> Result<Response, Problem> {
    let again = &posted.form;
    let typed =
        vec![("replay".to_owned(), again.set.clone()), ("replay.what".to_owned(), again.what.clone())];
    done(&api, &run, &posted, again.act(), "replayed", typed).await
}

/// Whether the page that the decision was taken on showed what it is about now.
async fn is_current(api: &Api, run: &RunId, decision: &Decision) -> Result<(), Problem> {
    let view = look(&api.engine, &api.data, run).await?;
    let gate = view.gates.iter().find(|gate| gate.environment == decision.environment);
    // Where there is no gate, the refusal of the act says why.
    if gate.is_none_or(|gate| gate.status != "waiting" || text::shown(&gate.ships) == decision.shown) {
        return Ok(());
    }
    let (run, environment) = (run.clone(), decision.environment.clone());
    Err(crate::engine::Error::from(Refusal::Changed { run, environment }).into())
}

/// Carries out the act; back to the page, or the page with the refusal.
async fn done<T>(
    api: &Api,
    run: &RunId,
    posted: &Posted<T>,
    act: Result<Act, Problem>,
    said: &str,
    typed: Typed,
) -> Result<Response, Problem> {
    let acted = match (act, posted.actor()) {
        (Ok(act), Ok(actor)) => api.engine.act(run, act, actor).await.map_err(Problem::from),
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    };
    match acted {
        Ok(()) => Ok(posted.back(&run::path(run), said).into_response()),
        Err(problem) => run::refused(api, posted.who(), run, problem, typed).await,
    }
}
