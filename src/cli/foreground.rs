//! Takes a run to its end in the foreground: by driving it, when nobody else holds the data directory,
//! or by handing it to whoever does. When that one goes away, this process goes on with the run.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::follow::{Followed, Signals, follow};
use super::progress::{Progress, Target};
use super::reach::{Driver, Place, driver};
use super::{Error, Exit};
use crate::app::House;
use crate::config::Settings;
use crate::http::{self, Client, Submission, client};
use crate::ids::{PipelineName, RunId};
use crate::ipc;
use crate::run::command::Act;
use crate::run::event::Actor;
use crate::run::view::{RunView, Status};

/// What is still being answered when the run has ended gets so long.
const FAREWELL: Duration = Duration::from_secs(2);

/// So often a run is taken up again after whoever drove it went away.
const LOSSES: u32 = 5;

/// A run in the foreground.
pub struct Foreground {
    pub asked: Place,
    /// What others read about who holds the directory: `windlass run`.
    pub what: &'static str,
    pub settings: Settings,
    /// Who cancels it with Ctrl-C.
    pub actor: Actor,
    pub json: bool,
    /// What is added to commands that are shown.
    pub place: String,
}

/// Which run.
pub enum Start {
    New {
        pipeline: PipelineName,
        submission: Box<Submission>,
    },
    Known(RunId),
    /// Stages of a run are to be done again.
    Repeat(Box<Repeat>),
}

/// A replay, to be asked for once.
pub struct Repeat {
    pub run: RunId,
    pub act: Act,
    /// How many replays of the run there were before.
    pub known: usize,
}

impl Repeat {
    /// Whether it took place already, when whoever was asked for it went away before the answer.
    fn is_done(&self, view: &RunView, actor: &Actor) -> bool {
        let Act::Replay { selection, edits } = &self.act else { return false };
        let edits: Vec<String> = edits.iter().map(ToString::to_string).collect();
        view.replays.iter().skip(self.known).any(|replay| {
            replay.actor == actor.name && replay.request == selection.request() && replay.edits == edits
        })
    }
}

impl Foreground {
    /// Takes the run to its end and says how it ended.
    pub async fn carry(self, mut start: Start) -> Result<Exit, Error> {
        let target = if self.json { Target::Stderr } else { Target::Stdout };
        let mut progress = Progress::new(target, self.place.clone());
        let mut signals = Signals::new()?;
        for _ in 0..LOSSES {
            let (run, followed) = match driver(&self.asked, self.what, &self.settings).await? {
                Driver::Us(house) => self.drive(*house, &start, &mut progress, &mut signals).await?,
                Driver::Holder(client) => {
                    match self.submit(&client, &start, &mut progress, &mut signals).await {
                        Err(Handed::Gone) => continue,
                        Err(Handed::Failed(error)) => return Err(error),
                        Ok(followed) => followed,
                    }
                }
            };
            match followed {
                Followed::Ended(view) => return self.finish(&mut progress, &view),
                Followed::Left => {
                    progress.stop();
                    return Err(self.left(&run));
                }
                Followed::Lost(error) => {
                    let why = error.map(|error| format!(" ({error})")).unwrap_or_default();
                    progress.say(&format!("whoever drove {run} went away{why}; going on with it"));
                    start = Start::Known(run);
                }
            }
        }
        progress.stop();
        let error = Error::world("whoever drives the run goes away again and again");
        Err(match start {
            Start::Known(run) => error.hint(format!("windlass resume {run}{}", self.place)),
            Start::New { .. } | Start::Repeat(_) => error,
        })
    }

    /// Drives the run in this process, which serves the API meanwhile.
    async fn drive(
        &self,
        house: House,
        start: &Start,
        progress: &mut Progress,
        signals: &mut Signals,
    ) -> Result<(RunId, Followed), Error> {
        let shutdown = CancellationToken::new();
        let listener = ipc::listen(&house.data, http::SOCKET)?;
        let serving =
            tokio::spawn(http::serve(listener, house.engine.clone(), house.data.clone(), shutdown.clone()));
        let run = match start {
            Start::Known(run) => run.clone(),
            Start::New { pipeline, submission } => {
                let Submission { origin, trigger_key } = (**submission).clone();
                house.engine.create(pipeline.clone(), origin, trigger_key).await?
            }
            Start::Repeat(repeat) => match self.repeat(&house, repeat).await {
                Ok(()) => repeat.run.clone(),
                Err(error) => {
                    shutdown.cancel();
                    let _ = tokio::time::timeout(FAREWELL, serving).await;
                    house.close().await?;
                    return Err(error);
                }
            },
        };
        house.engine.drive(&run).await?;
        let views = http::changes(
            house.engine.clone(),
            Arc::from(house.data.as_path()),
            run.clone(),
            CancellationToken::new(),
        );
        let cancel = || {
            let (engine, run, actor) = (house.engine.clone(), run.clone(), self.actor.clone());
            async move {
                let act = Act::Cancel { reason: String::new() };
                Ok(engine.act(&run, act, actor).await?)
            }
            .boxed()
        };
        let followed = follow(&run, views.map_err(Error::from), cancel, progress, signals).await;
        match followed {
            Followed::Ended(_) => {
                shutdown.cancel();
                // Whoever follows a run that was handed to us takes it up.
                let _ = tokio::time::timeout(FAREWELL, serving).await;
                house.close().await?;
                Ok((run, followed))
            }
            Followed::Lost(error) => {
                let error = error.unwrap_or_else(|| {
                    Error::world(format!("{run} cannot be driven any further; see the message above"))
                });
                Err(error.hint(format!("windlass resume {run}{}", self.place)))
            }
            // At once: what is under way is recorded, and the process ends with us.
            Followed::Left => Ok((run, followed)),
        }
    }

    async fn repeat(&self, house: &House, repeat: &Repeat) -> Result<(), Error> {
        let view = house.engine.view(&repeat.run).await?;
        if !repeat.is_done(&view, &self.actor) {
            house.engine.act(&repeat.run, repeat.act.clone(), self.actor.clone()).await?;
        }
        Ok(())
    }

    /// Lets the holder drive the run, and follows it.
    async fn submit(
        &self,
        client: &Client,
        start: &Start,
        progress: &mut Progress,
        signals: &mut Signals,
    ) -> Result<(RunId, Followed), Handed> {
        let view = match start {
            Start::Known(run) => client.resume(run).await?,
            Start::New { submission, .. } => client.submit(submission).await?,
            Start::Repeat(repeat) => match client.run(&repeat.run).await? {
                view if repeat.is_done(&view, &self.actor) => client.resume(&repeat.run).await?,
                _ => client.act(&repeat.run, &repeat.act, &self.actor).await?.run,
            },
        };
        let run = view.run;
        // From here on it has the run: if it goes away, the run was lost, and not just never handed over.
        let holder = match client.holder().await {
            Ok(holder) => holder,
            Err(error) => return lost(run, error),
        };
        progress.say(&format!(
            "{run} is driven by process {} ({}), {} {}",
            holder.pid,
            holder.command,
            if self.asked.directory().is_some() { "which holds" } else { "at" },
            self.asked
        ));
        let views = match client.changes(&run).await {
            Ok(views) => views.map_err(Error::from),
            Err(error) => return lost(run, error),
        };
        let cancel = || {
            let (client, run, actor) = (client.clone(), run.clone(), self.actor.clone());
            async move {
                client.act(&run, &Act::Cancel { reason: String::new() }, &actor).await?;
                Ok(())
            }
            .boxed()
        };
        let followed = follow(&run, views.boxed(), cancel, progress, signals).await;
        Ok((run, followed))
    }

    fn finish(&self, progress: &mut Progress, view: &RunView) -> Result<Exit, Error> {
        progress.finish(view);
        if self.json {
            writeln!(std::io::stdout().lock(), "{}", super::json(view)?)?;
        }
        Ok(match view.status {
            Status::Succeeded => Exit::Good,
            _ => Exit::Failed,
        })
    }

    fn left(&self, run: &RunId) -> Error {
        Error::world(format!("left {run} before its end; nothing of it is lost, and steps that run go on"))
            .hint(format!("to carry it on: windlass resume {run}{}", self.place))
    }
}

/// The holder took the run, and then could not be asked any more.
fn lost(run: RunId, error: client::Error) -> Result<(RunId, Followed), Handed> {
    match Handed::from(error) {
        Handed::Gone => Ok((run, Followed::Lost(None))),
        failed => Err(failed),
    }
}

/// Why the holder does not drive the run.
enum Handed {
    /// It went away.
    Gone,
    Failed(Error),
}

impl From<client::Error> for Handed {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Gone { .. } => Self::Gone,
            error => Self::Failed(error.into()),
        }
    }
}
