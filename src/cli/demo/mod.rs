//! `windlass demo`

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use self::load::{Load, Seen};
use self::place::Place;
use self::push::Push;
use self::report::Report;
use super::follow::{Followed, Signals, follow};
use super::progress::{Progress, Target};
use super::server::{Server, Start};
use super::{Error, Exit};
use crate::app::House;
use crate::config::Settings;
use crate::engine::Engine;
use crate::http;
use crate::ids::{FleetId, PipelineName, RunId};
use crate::run::command::Act;
use crate::run::event::{Actor, Commit};
use crate::run::view::{RunView, StageStatus, Status};
use crate::runner;

mod load;
mod place;
mod push;
mod report;
mod sample;

/// The swap of version 2 is asked at least so much.
const REQUESTS: u64 = 10_000;

/// A process that ends by itself gets so long.
const FAREWELL: Duration = Duration::from_secs(10);

/// Where the pages are, unless somebody says so; with port 0, at one that is free.
const LISTEN: [SocketAddr; 2] = [
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7430)),
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)),
];

/// Take a sample service to production on this machine, twice, and watch the second swap under traffic
///
/// Starts a server, makes a git repository of a small HTTP service, and sends the server the webhook that
/// GitHub sends for a push, signed: its first version goes to a production of three instances behind a
/// load balancer. A second version is committed and pushed the same way, while real traffic goes through
/// the balancer. Needs the Rust toolchain, as the service is built on the way. Without --auto the second
/// version waits for you to promote it, by a click on its page or from another terminal, and what runs
/// goes on serving until Ctrl-C. At the end nothing is left behind: no process, no port and, unless
/// --data names one, no directory.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Promote the second version as well, and end when it is in production
    #[arg(long)]
    auto: bool,
    /// Print the result as one JSON object; the progress goes to the standard error
    #[arg(long)]
    json: bool,
    /// Keep everything in this directory, also afterwards; it must be new or empty
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the pages are served; without it at 127.0.0.1:7430, or another port when that is taken
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let signals = Signals::new()?;
    let place = Place::make(args.data.as_deref())?;
    let settings = Settings::read(&place.settings)?;
    let named = args.listen.map(|address| [address]);
    let server = Server::start(Start {
        data: &place.data,
        what: "windlass demo",
        settings: settings.clone(),
        listen: named.as_ref().map_or(&LISTEN[..], |named| named),
        pipelines: Some(place.pipelines.clone()),
    })
    .await?;
    let progress = progress(&args, &server);
    let demo = Demo { server, settings, place: &place, progress, signals, args };
    let (house, outcome) = demo.carry().await;
    house.close().await?;
    if !runner::left(&place.data, FAREWELL).await {
        return Err(Error::world(format!("the runner of {} does not end", place.data.display())));
    }
    outcome
}

fn progress(args: &Args, server: &Server) -> Progress {
    let target = if args.json { Target::Stderr } else { Target::Stdout };
    Progress::new(target, format!(" --data {}", server.house.data.display())).with_pages(server.url())
}

/// The demo under way.
struct Demo<'a> {
    server: Server,
    settings: Settings,
    place: &'a Place,
    progress: Progress,
    signals: Signals,
    args: Args,
}

/// Who says yes at a gate.
#[derive(Clone, Copy)]
enum Says {
    /// The demo, which was told to.
    Policy,
    /// Whoever watches.
    Person,
}

/// How far the demo came.
enum Told {
    /// Both versions were taken as far as they go.
    Whole(Box<Report>),
    /// A run did not succeed.
    Failed,
    /// Somebody told it to stop.
    Stopped,
}

impl Demo<'_> {
    /// Tells the whole story, and takes down what it put up, however it ended.
    async fn carry(mut self) -> (House, Result<Exit, Error>) {
        let told = self.tell().await;
        let outcome = match told {
            Ok(Told::Whole(report)) => self.show(&report).await,
            Ok(Told::Failed | Told::Stopped) => Ok(Exit::Failed),
            Err(error) => Err(error),
        };
        // From now on nobody puts up again what is taken down.
        let house = self.server.pause().await;
        let taken_down = take_down(&house, &self.settings).await;
        if taken_down.is_ok() {
            self.progress.say("Everything is taken down again");
        }
        (house, outcome.and_then(|exit| taken_down.map(|()| exit)))
    }

    async fn tell(&mut self) -> Result<Told, Error> {
        self.progress.say(&format!("The pages of all that happens are at {}", self.server.url()));
        self.progress.say("Version 1: from its commit to production");
        let version_1 = sample::create(&self.place.repository)?;
        let first = match self.ship(None, &version_1, Says::Policy, None).await? {
            Followed::Ended(view) if view.status == Status::Succeeded => view,
            Followed::Ended(_) => return Ok(Told::Failed),
            _ => return Ok(Told::Stopped),
        };
        let url = first.stages.iter().rev().find_map(|stage| stage.outputs.get("url")).cloned();
        if let Some(url) = &url {
            self.progress.say(&format!("Version 1 serves at {url}"));
        }
        self.progress.say("Version 2: the same way, while traffic goes through the balancer");
        let version_2 = sample::change(&self.place.repository)?;
        let says = if self.args.auto { Says::Policy } else { Says::Person };
        let address = url.as_deref().and_then(|url| url.trim_start_matches("http://").parse().ok());
        let (seen_in, seen) = tokio::sync::oneshot::channel();
        let traffic = address.map(|address| (address, seen_in));
        match self.ship(Some(&version_1), &version_2, says, traffic).await? {
            Followed::Ended(view) if view.status == Status::Succeeded => {
                Ok(Told::Whole(Box::new(Report::new(&first, &view, seen.await.ok()))))
            }
            Followed::Ended(_) => Ok(Told::Failed),
            _ => Ok(Told::Stopped),
        }
    }

    /// Pushes the commit, and follows the run that it starts. With an address, traffic goes there while
    /// production is swapped.
    async fn ship(
        &mut self,
        before: Option<&Commit>,
        commit: &Commit,
        says: Says,
        traffic: Option<(SocketAddr, tokio::sync::oneshot::Sender<Seen>)>,
    ) -> Result<Followed, Error> {
        let push = Push::new(before, commit);
        push.send(self.server.address, &self.place.secret).await?;
        let run = self.started(&push).await?;
        let page = format!("{}/runs/{run}", self.server.url());
        self.progress.say(&format!("A signed webhook of the push started {run}, whose page is {page}"));
        let engine = self.server.house.engine.clone();
        let views = || {
            let data = Arc::from(self.place.data.as_path());
            http::changes(engine.clone(), data, run.clone(), CancellationToken::new()).map_err(Error::from)
        };
        if let Some((address, seen)) = traffic {
            tokio::spawn(during_the_swap(views(), address, seen));
        }
        let shown = match says {
            Says::Policy => promoted(views(), engine.clone(), run.clone()).boxed(),
            Says::Person => views().boxed(),
        };
        let cancel = || cancel(engine.clone(), run.clone()).boxed();
        let followed = follow(&run, shown, cancel, &mut self.progress, &mut self.signals).await;
        match followed {
            Followed::Ended(view) => {
                self.progress.finish(&view);
                self.progress = progress(&self.args, &self.server);
                Ok(Followed::Ended(view))
            }
            Followed::Lost(Some(error)) => Err(error),
            followed => {
                self.progress.stop();
                // Somebody wants to leave at once: the run has to let go of its fleets first.
                let _ = cancel_and_wait(&engine, &run).await;
                Ok(followed)
            }
        }
    }

    /// The run that the push started.
    async fn started(&self, push: &Push) -> Result<RunId, Error> {
        let delivery = self.server.intake.handled(&push.delivery).await.map_err(Error::world)?;
        let settlement = delivery.settlement;
        settlement.runs.into_iter().next().ok_or_else(|| {
            let why = settlement.reason.unwrap_or_else(|| "it is not handled yet".to_owned());
            Error::world(format!("the push of the demo started no run: {why}"))
        })
    }

    /// Shows the result. Without --auto what runs goes on serving until somebody interrupts it.
    async fn show(&mut self, report: &Report) -> Result<Exit, Error> {
        use std::io::Write as _;
        let text = if self.args.json { super::json(report)? } else { report.table() };
        writeln!(std::io::stdout().lock(), "{text}")?;
        if !self.args.auto {
            let url = report.url.as_deref().unwrap_or("its address");
            self.progress.say(&format!("Version 2 serves at {url} until you press Ctrl-C"));
            self.signals.asked().await;
        }
        Ok(if report.swap.failed == 0 { Exit::Good } else { Exit::Failed })
    }
}

/// Ends every fleet and the balancer.
async fn take_down(house: &House, settings: &Settings) -> Result<(), Error> {
    for environment in settings.environments.keys() {
        let fleet = FleetId::new(service()?, environment.clone());
        match house.engine.down(&fleet, Actor::unverified("demo"), |_| {}).await {
            Ok(()) | Err(crate::engine::Error::NoFleet(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    house.balancer.stop().await.map_err(Error::world)
}

/// The views of a run that passes every gate by the word of the command line. Those on which somebody
/// would be asked are left out.
fn promoted(
    views: impl Stream<Item = Result<RunView, Error>> + Send,
    engine: Engine,
    run: RunId,
) -> impl Stream<Item = Result<RunView, Error>> + Send {
    views.try_filter_map(move |view| {
        let (engine, run) = (engine.clone(), run.clone());
        async move {
            let Some(gate) = view.gates.iter().find(|gate| gate.status == "waiting") else {
                return Ok(Some(view));
            };
            let act = Act::Promote { environment: gate.environment.clone() };
            match engine.act(&run, act, Actor::command_line_policy()).await {
                Ok(()) => Ok(None),
                // It is being cancelled, or a person has to decide after all: whoever watches sees it.
                Err(_) => Ok(Some(view)),
            }
        }
    })
}

/// Sends traffic from the moment production's swap begins until it is over and enough was sent.
async fn during_the_swap(
    mut views: impl futures_util::Stream<Item = Result<RunView, Error>> + Unpin,
    address: SocketAddr,
    seen: tokio::sync::oneshot::Sender<Seen>,
) {
    let mut load = None;
    while let Ok(Some(view)) = views.try_next().await {
        let Some(stage) = view.stages.iter().find(|stage| stage.name.as_str() == "production") else { break };
        match stage.status {
            StageStatus::Running => drop(load.get_or_insert_with(|| Load::start(address))),
            _ if view.status.is_final() => break,
            _ => {}
        }
    }
    if let Some(load) = load {
        load.sent(REQUESTS).await;
        let _ = seen.send(load.stop().await);
    }
}

async fn cancel(engine: Engine, run: RunId) -> Result<(), Error> {
    Ok(engine.act(&run, Act::Cancel { reason: String::new() }, Actor::unverified("demo")).await?)
}

async fn cancel_and_wait(engine: &Engine, run: &RunId) -> Result<(), Error> {
    cancel(engine.clone(), run.clone()).await?;
    if let Some(handle) = engine.handle(run) {
        handle.ended().await;
    }
    Ok(())
}

fn service() -> Result<PipelineName, Error> {
    "storefront".parse().map_err(Error::world)
}
