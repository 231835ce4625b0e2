//! `windlass logs`

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::{oneshot, watch};

use super::reach::{Place, Reach, Where, reach};
use super::show::look;
use super::{Error, Exit, text};
use crate::http::client;
use crate::ids::{AttemptId, RunId, StageName, StepId};
use crate::log;
use crate::run::view::{RunView, StageView, StepStatus};

pub mod piece;

use piece::{Piece, Which};

/// Print what the steps of a run said
///
/// Without STAGE, every step of every stage, each under a line with its name. With --follow, also what
/// they are saying, until the run has ended.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, such as storefront/42
    run: RunId,
    /// Only this stage
    stage: Option<StageName>,
    /// Only this step: its number, from 1, or its name
    #[arg(long, value_name = "STEP", requires = "stage")]
    step: Option<String>,
    /// Another attempt than the newest, from 1
    #[arg(long, value_name = "N", requires = "stage", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Go on until the run, the stage or the step has ended
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let place = args.place.place()?;
    let which = Which { stage: args.stage, step: args.step, attempt: args.attempt };
    let view = look(&place, &args.run).await?;
    which.check(&view, args.follow)?;
    let mut printer = Printer { place: &place, headers: which.stage.is_none(), at_line_start: true };
    if !args.follow {
        for piece in which.pieces(&view, place.directory()) {
            printer.print(&piece, false, async {}).await?;
        }
        return Ok(Exit::Good);
    }
    let (views, told) = watch(&place, view).await?;
    let last = follow(&which, views, &mut printer).await?;
    if which.is_over(&last) {
        return Ok(Exit::Good);
    }
    if let Ok(error @ client::Error::Silent { .. }) = told.await {
        return Err(error.into());
    }
    Err(Error::world(format!("nobody drives {} any more, so this is all for now", args.run)).hint(format!(
        "windlass resume {}{} carries it on",
        args.run,
        args.place.suffix()
    )))
}

/// The run's newest view, from now on. Closed when nobody drives the run any more, or nobody tells of it:
/// the other value is why.
async fn watch(
    place: &Place,
    first: RunView,
) -> Result<(watch::Receiver<Arc<RunView>>, oneshot::Receiver<client::Error>), Error> {
    let run = first.run.clone();
    let (sender, receiver) = watch::channel(Arc::new(first));
    let (tell, told) = oneshot::channel();
    if let Reach::Holder(client) = reach(place).await? {
        let mut views = client.changes(&run).await?;
        tokio::spawn(async move {
            while let Some(view) = views.next().await {
                match view {
                    Ok(view) => drop(sender.send_replace(Arc::new(view))),
                    // Said before the views end, and so not missed.
                    Err(error) => return drop(tell.send(error)),
                }
            }
        });
    }
    Ok((receiver, told))
}

/// Prints each piece once, as it begins, to its end. Answers the last view.
async fn follow(
    which: &Which,
    mut views: watch::Receiver<Arc<RunView>>,
    printer: &mut Printer<'_>,
) -> Result<Arc<RunView>, Error> {
    let mut printed = BTreeSet::new();
    loop {
        let view = views.borrow_and_update().clone();
        let mut pieces = which.pieces(&view, printer.place.directory());
        pieces.retain(|piece| !printed.contains(&piece.id));
        pieces.sort_by_key(|piece| piece.started_at);
        if let Some(piece) = pieces.first() {
            printed.insert(piece.id.clone());
            printer.print(piece, true, ended(views.clone(), piece.id.clone())).await?;
            continue;
        }
        if which.is_over(&view) || views.changed().await.is_err() {
            return Ok(view);
        }
    }
}

/// Returns when the step writes no more, or when nobody tells us any more.
async fn ended(mut views: watch::Receiver<Arc<RunView>>, step: StepId) {
    let over = |view: &Arc<RunView>| {
        let stage = view.stages.iter().find(|stage| stage.name == step.attempt.stage);
        view.status.is_final() || stage.is_none_or(|stage| step_is_over(stage, &step))
    };
    // An error says that nobody tells us any more.
    let _ = views.wait_for(over).await;
}

/// Whether the step writes no more.
fn step_is_over(stage: &StageView, id: &StepId) -> bool {
    let number = usize::try_from(id.step).unwrap_or(usize::MAX);
    let step = stage.steps.get(number.saturating_sub(1));
    stage.attempt > id.attempt.attempt
        || stage.status.is_final()
        || step.is_some_and(|step| !matches!(step.status, StepStatus::Running | StepStatus::Pending))
}

struct Printer<'a> {
    place: &'a Place,
    headers: bool,
    at_line_start: bool,
}

impl Printer<'_> {
    async fn print(
        &mut self,
        piece: &Piece,
        follow: bool,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        if self.headers {
            let AttemptId { stage, attempt, .. } = &piece.id.attempt;
            let line_end = if self.at_line_start { "" } else { "\n" };
            let name = text::clean(&piece.name);
            let mut out = std::io::stdout().lock();
            writeln!(out, "{line_end}== {stage} / {name} (attempt {attempt})")?;
            out.flush()?;
            self.at_line_start = true;
        }
        let mut bytes = match self.place {
            Place::Data(data) => {
                log::follow(log::path(data, &piece.id), 0, until).map_err(Error::from).boxed()
            }
            Place::Server { client, .. } => {
                client.log(&piece.id, 0, follow).await?.map_err(Error::from).boxed()
            }
        };
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk?;
            let mut out = std::io::stdout().lock();
            out.write_all(&chunk)?;
            out.flush()?;
            self.at_line_start = chunk.last().is_none_or(|byte| *byte == b'\n');
        }
        Ok(())
    }
}
