//! `windlass demo`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use self::load::{Load, Seen};
use self::report::Report;
use super::follow::{Followed, Signals, follow};
use super::progress::{Progress, Target};
use super::{Error, Exit};
use crate::app::House;
use crate::config::Settings;
use crate::http;
use crate::ids::{FleetId, PipelineName, RunId};
use crate::ipc;
use crate::run::command::Act;
use crate::run::event::{Actor, Origin, Promote};
use crate::run::view::{RunView, StageStatus, Status};
use crate::runner;
use crate::source::{Address, Want};

mod load;
mod report;
mod sample;

/// The swap of version 2 is asked at least so much.
const REQUESTS: u64 = 10_000;

/// What is still being answered at the end, and a process that ends by itself, gets so long.
const FAREWELL: Duration = Duration::from_secs(10);

/// Take a sample service to production on this machine, twice, and watch the second swap under traffic
///
/// Makes a git repository of a small HTTP service, ships its first version to a production of three
/// instances behind a load balancer, commits a second version and takes it the same way, while real
/// traffic goes through the balancer. Needs the Rust toolchain, as the service is built on the way.
/// Without --auto the second version waits for you to promote it from another terminal, and what runs
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
    /// Where the pages are served
    #[arg(long, value_name = "ADDR", hide = true)]
    listen: Option<String>,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    if args.listen.is_some() {
        return Err(Error::input("--listen is not supported yet: the demo has no pages so far"));
    }
    let (data, _temporary) = directory(args.data.as_deref())?;
    let settings_path = data.join("windlass.yaml");
    std::fs::write(&settings_path, settings_text())?;
    let settings = Settings::read(&settings_path)?;
    let repository = data.join("storefront");
    sample::create(&repository)?;

    let house = House::open(&data, "windlass demo", &settings).await?;
    let shutdown = CancellationToken::new();
    let listener = ipc::listen(&house.data, http::SOCKET)?;
    let serving =
        tokio::spawn(http::serve(listener, house.engine.clone(), house.data.clone(), shutdown.clone()));
    let demo = Demo {
        progress: Progress::new(
            if args.json { Target::Stderr } else { Target::Stdout },
            format!(" --data {}", data.display()),
        ),
        signals: Signals::new()?,
        pipeline_path: data.join("storefront.yaml"),
        settings_path,
        settings,
        repository,
        house,
        args,
    };
    std::fs::write(&demo.pipeline_path, sample::PIPELINE)?;
    let (house, outcome) = demo.carry().await;
    shutdown.cancel();
    let _ = tokio::time::timeout(FAREWELL, serving).await;
    house.close().await?;
    if !runner::left(&data, FAREWELL).await {
        return Err(Error::world(format!("the runner of {} does not end", data.display())));
    }
    outcome
}

/// The demo under way.
struct Demo {
    house: House,
    settings: Settings,
    settings_path: PathBuf,
    pipeline_path: PathBuf,
    repository: PathBuf,
    progress: Progress,
    signals: Signals,
    args: Args,
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

impl Demo {
    /// Tells the whole story, and takes down what it put up, however it ended.
    async fn carry(mut self) -> (House, Result<Exit, Error>) {
        let told = self.tell().await;
        let outcome = match told {
            Ok(Told::Whole(report)) => self.show(&report).await,
            Ok(Told::Failed | Told::Stopped) => Ok(Exit::Failed),
            Err(error) => Err(error),
        };
        let taken_down = self.take_down().await;
        (self.house, outcome.and_then(|exit| taken_down.map(|()| exit)))
    }

    async fn tell(&mut self) -> Result<Told, Error> {
        self.progress.say("Version 1: from its commit to production");
        let first = match self.ship(Promote::All, None).await? {
            Followed::Ended(view) if view.status == Status::Succeeded => view,
            Followed::Ended(_) => return Ok(Told::Failed),
            _ => return Ok(Told::Stopped),
        };
        let url = first.stages.iter().rev().find_map(|stage| stage.outputs.get("url")).cloned();
        if let Some(url) = &url {
            self.progress.say(&format!("Version 1 serves at {url}"));
        }
        sample::change(&self.repository)?;
        self.progress.say("Version 2: the same way, while traffic goes through the balancer");
        let promote = if self.args.auto { Promote::All } else { Promote::Nothing };
        let address = url.as_deref().and_then(|url| url.trim_start_matches("http://").parse().ok());
        let (seen_in, seen) = tokio::sync::oneshot::channel();
        match self.ship(promote, address.map(|address| (address, seen_in))).await? {
            Followed::Ended(view) if view.status == Status::Succeeded => {
                Ok(Told::Whole(Box::new(Report::new(&first, &view, seen.await.ok()))))
            }
            Followed::Ended(_) => Ok(Told::Failed),
            _ => Ok(Told::Stopped),
        }
    }

    /// Takes the repository's last commit through the pipeline. With an address, traffic goes there
    /// while production is swapped.
    async fn ship(
        &mut self,
        promote: Promote,
        traffic: Option<(SocketAddr, tokio::sync::oneshot::Sender<Seen>)>,
    ) -> Result<Followed, Error> {
        let address =
            Address::parse(&self.repository.display().to_string(), Path::new("/")).map_err(Error::world)?;
        let commit = self.house.sources.resolve(&address, &Want::Head).await.map_err(Error::world)?;
        let origin = Origin {
            settings_path: Some(self.settings_path.display().to_string()),
            source: Some(address.to_string()),
            commit: Some(commit),
            promote,
            ..Origin::new(
                sample::PIPELINE,
                self.pipeline_path.display().to_string(),
                Actor::unverified("demo"),
            )
        };
        let engine = self.house.engine.clone();
        let run = engine.create(service()?, origin, None).await?;
        engine.drive(&run).await?;
        let views = |stop| {
            let data: Arc<Path> = Arc::from(self.house.data.as_path());
            http::changes(engine.clone(), data, run.clone(), stop).map_err(Error::from)
        };
        if let Some((address, seen)) = traffic {
            tokio::spawn(during_the_swap(views(CancellationToken::new()), address, seen));
        }
        let cancel = || cancel(self.house.engine.clone(), run.clone()).boxed();
        let followed =
            follow(&run, views(CancellationToken::new()), cancel, &mut self.progress, &mut self.signals)
                .await;
        match followed {
            Followed::Ended(view) => {
                self.progress.finish(&view);
                let target = if self.args.json { Target::Stderr } else { Target::Stdout };
                let place = format!(" --data {}", self.house.data.display());
                self.progress = Progress::new(target, place);
                Ok(Followed::Ended(view))
            }
            Followed::Lost(Some(error)) => Err(error),
            followed => {
                self.progress.stop();
                // Somebody wants to leave at once: the run has to let go of its fleets first.
                let _ = cancel_and_wait(&self.house, &run).await;
                Ok(followed)
            }
        }
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

    /// Ends every fleet and the balancer.
    async fn take_down(&mut self) -> Result<(), Error> {
        for (environment, _) in self.settings.environments.clone() {
            let fleet = FleetId::new(service()?, environment);
            match self.house.engine.down(&fleet, Actor::unverified("demo"), |_| {}).await {
                Ok(()) | Err(crate::engine::Error::NoFleet(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.house.balancer.stop().await.map_err(Error::world)?;
        self.progress.say("Everything is taken down again");
        Ok(())
    }
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

async fn cancel(engine: crate::engine::Engine, run: RunId) -> Result<(), Error> {
    Ok(engine.act(&run, Act::Cancel { reason: String::new() }, Actor::unverified("demo")).await?)
}

async fn cancel_and_wait(house: &House, run: &RunId) -> Result<(), Error> {
    cancel(house.engine.clone(), run.clone()).await?;
    if let Some(handle) = house.engine.handle(run) {
        handle.ended().await;
    }
    Ok(())
}

fn service() -> Result<PipelineName, Error> {
    "storefront".parse().map_err(Error::world)
}

/// The data directory; one that nobody named is removed at the end.
fn directory(named: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), Error> {
    let Some(named) = named else {
        let temporary = tempfile::Builder::new().prefix("windlass-demo-").tempdir()?;
        return Ok((temporary.path().canonicalize()?, Some(temporary)));
    };
    crate::directory::make_private(named)?;
    let data = named.canonicalize()?;
    if std::fs::read_dir(&data)?.next().is_some() {
        return Err(Error::input(format!("{} is not empty; the demo starts from nothing", data.display()))
            .hint("name a new directory, or leave out --data"));
    }
    Ok((data, None))
}

/// The settings, with other ports where somebody else has those that are named there.
fn settings_text() -> String {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut text = sample::SETTINGS.to_owned();
    let mut next = 7433;
    for port in [7431, 7432] {
        if !free(port) {
            while next < 7600 && !free(next) {
                next += 1;
            }
            text = text.replace(&format!("port: {port}"), &format!("port: {next}"));
            next += 1;
        }
    }
    text
}
