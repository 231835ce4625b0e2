//! Wiring: the only place that names concrete adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use crate::artifact::Shelf;
use crate::balancer;
use crate::clock::SystemClock;
use crate::cloud::local::{Local, LocalObjects};
use crate::cloud::{self, Balancer, Cloud, Clouds, Compute, Objects, Setup};
use crate::config::Settings;
use crate::engine::{Engine, Parts, Slots, Surveyor};
use crate::ids::{CommitSha, RunId};
use crate::intake::{self, Intake};
use crate::ipc;
use crate::run::event::{Origin, Shipment};
use crate::runner::{self, Runner};
use crate::source::{Address, Sources};
use crate::stage::{self, Stage, Workspaces};
use crate::store::hold::{Hold, HoldError};
use crate::store::home::{self, HomeError};
use crate::store::sqlite::Sqlite;
use crate::store::{self, RunFilter, Store};

pub mod backup;
pub mod check;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(
        "the journal of {} is missing: there are steps' logs, instances or a windlass.db-wal, and no \
         windlass.db that knows of them; restore it from a backup, or move logs, instances and windlass.db-wal \
         away",
        .0.display()
    )]
    NoJournal(PathBuf),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{} is a backup that cannot be opened: {error}", .data.display())]
    Backup { data: PathBuf, error: std::io::Error },
    #[error("the path of this program cannot be told: {0}")]
    Program(std::io::Error),
}

/// A data directory that this process holds, and all that works on it.
pub struct House {
    pub data: PathBuf,
    pub engine: Engine,
    pub sources: Arc<Sources>,
    pub clouds: Arc<dyn Clouds>,
    pub balancer: Arc<balancer::Client>,
    store: Arc<Sqlite>,
    _sweeping: AbortOnDropHandle<()>,
    // Last, so that everything above is gone when somebody else takes the directory.
    _hold: Hold,
}

impl House {
    /// Takes hold of `data` and opens what is in it. `what` tells a second holder who we are:
    /// `windlass run`.
    pub async fn open(data: &Path, what: &str, settings: &Settings) -> Result<Self, Error> {
        let hold = Hold::take(data, what)?;
        let data = data.canonicalize().map_err(Error::Program)?;
        home::settle(&data, |what| ipc::peer(&data, &format!("{what}.sock")))?;
        match crate::backup::open_up(&data) {
            Ok(None) => {}
            Ok(Some(of)) => tracing::warn!(
                of = of.of, taken_at = %of.taken_at,
                "this is a backup; from now on it goes its own way, and the original must not act any more"
            ),
            Err(error) => return Err(Error::Backup { data, error }),
        }
        if Sqlite::is_missing(&data) && has_traces(&data) {
            return Err(Error::NoJournal(data));
        }
        let store = Arc::new(Sqlite::open(&data).await?);
        let (clouds, balancer) = clouds(&data)?;
        // This process may have become this program a moment ago.
        Local::new(data.clone()).adopt();
        let sources = Arc::new(Sources::new(&data));
        let shelf = Arc::new(Shelf::new(data.join("artifacts")));
        let workspaces = Workspaces { data: data.clone(), sources: sources.clone(), shelf };
        let runner: Arc<dyn Runner> = Arc::new(runner::Client::new(data.clone(), program()?));
        let engine = Engine::new(Parts {
            data: data.clone(),
            store: store.clone(),
            clock: Arc::new(SystemClock),
            stages: stages(&store, &clouds, &workspaces, &runner),
            surveyor: Arc::new(GitSurveyor(sources.clone())),
            clouds: clouds.clone(),
            slots: Slots::new(settings.runner.slots),
        });
        let sweeping = AbortOnDropHandle::new(tokio::spawn(sweep(store.clone(), workspaces)));
        Ok(Self { data, engine, sources, clouds, balancer, store, _hold: hold, _sweeping: sweeping })
    }

    /// Takes in what starts runs: webhooks, schedules, pipelines by name.
    pub async fn intake(
        &self,
        pipelines: Option<PathBuf>,
        settings: Arc<Settings>,
    ) -> Result<Intake, intake::StartError> {
        let (engine, sources) = (self.engine.clone(), self.sources.clone());
        Intake::start(intake::Parts { engine, sources, clock: Arc::new(SystemClock), settings, pipelines })
            .await
    }

    /// Writes what is still to be written, and lets go of the directory.
    pub async fn close(self) -> Result<(), store::Error> {
        self.store.close().await
    }
}

/// Removes what nobody has touched for a day, now and each day. Where the unfinished runs cannot be read,
/// nothing.
async fn sweep(store: Arc<Sqlite>, workspaces: Workspaces) {
    let unfinished = RunFilter { unfinished: true, limit: Some(u32::MAX), ..RunFilter::default() };
    loop {
        if let Ok(rows) = store.runs(&unfinished).await {
            let unfinished: BTreeSet<RunId> = rows.into_iter().map(|row| row.run).collect();
            let workspaces = workspaces.clone();
            tokio::task::spawn_blocking(move || workspaces.sweep(&unfinished));
        }
        tokio::time::sleep(Workspaces::KEPT).await;
    }
}

/// Whether runs were driven there.
fn has_traces(data: &Path) -> bool {
    Sqlite::has_log(data) || ["logs", "instances"].iter().any(|name| has_content(&data.join(name)))
}

fn has_content(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// The store of a directory that somebody else may hold, for reading; `None` when there is none, and never
/// was.
pub async fn read_store(data: &Path) -> Result<Option<Arc<dyn Store>>, Error> {
    let store = Sqlite::open_read_only(data).await?;
    if store.is_none() && has_traces(data) {
        return Err(Error::NoJournal(data.to_owned()));
    }
    Ok(store.map(|store| Arc::new(store) as Arc<dyn Store>))
}

/// The clouds that a data directory's services are in, and the balancer of the local one.
pub fn clouds(data: &Path) -> Result<(Arc<dyn Clouds>, Arc<balancer::Client>), Error> {
    let (local, balancer) = local(data)?;
    Ok((
        Arc::new(Opened {
            local,
            #[cfg(feature = "aws")]
            aws: Default::default(),
        }),
        balancer,
    ))
}

/// What is missing on AWS before the first run, and what was asked there.
///
/// # Errors
/// It is not reached.
#[cfg(feature = "aws")]
pub async fn examine(
    setup: &Arc<cloud::setup::Aws>,
    plan: &cloud::aws::doctor::Plan,
) -> Result<(Vec<cloud::finding::Finding>, BTreeMap<String, cloud::aws::limiter::Count>), cloud::Error> {
    let accounts = cloud::aws::Accounts::default();
    let findings = accounts.examine(setup, plan).await?;
    Ok((findings, accounts.requests()))
}

/// Every cloud, each opened once.
struct Opened {
    local: Cloud,
    #[cfg(feature = "aws")]
    aws: cloud::aws::Accounts,
}

impl Clouds for Opened {
    fn open(&self, setup: &Setup) -> Result<Cloud, cloud::Error> {
        match setup {
            Setup::Local => Ok(self.local.clone()),
            #[cfg(feature = "aws")]
            Setup::Aws(aws) => Ok(self.aws.open(aws)),
            #[cfg(not(feature = "aws"))]
            Setup::Aws(_) => Err(cloud::Error::Denied(
                "this program was built without AWS: cargo build --features aws builds one that has it"
                    .to_owned(),
            )),
        }
    }
}

fn local(data: &Path) -> Result<(Cloud, Arc<balancer::Client>), Error> {
    let here = Arc::new(Local::new(data.to_owned()));
    let compute: Arc<dyn Compute> = here.clone();
    let balancer = Arc::new(balancer::Client::new(data.to_owned(), program()?));
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(data.join("objects")));
    Ok((
        Cloud { compute, balancer: balancer.clone() as Arc<dyn Balancer>, objects, inventory: here },
        balancer,
    ))
}

/// This program, as runner and balancer start it. Where its file was replaced meanwhile, the one that
/// runs is started all the same.
fn program() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().map_err(Error::Program)?;
    Ok(if program.exists() { program } else { PathBuf::from("/proc/self/exe") })
}

fn stages(
    store: &Arc<Sqlite>,
    clouds: &Arc<dyn Clouds>,
    workspaces: &Workspaces,
    runner: &Arc<dyn Runner>,
) -> BTreeMap<&'static str, Arc<dyn Stage>> {
    let store: Arc<dyn Store> = store.clone();
    let checkout = stage::checkout::Checkout { sources: workspaces.sources.clone() };
    let script = stage::script::Script {
        workspaces: workspaces.clone(),
        runner: runner.clone(),
        store: store.clone(),
        clouds: clouds.clone(),
    };
    let upload = stage::upload::Upload { workspaces: workspaces.clone(), clouds: clouds.clone() };
    let bake = stage::bake::Bake {
        workspaces: workspaces.clone(),
        runner: runner.clone(),
        store: store.clone(),
        clouds: clouds.clone(),
    };
    let deploy = stage::deploy::Deploy { store, clouds: clouds.clone() };
    let certify = stage::certify::Certify { clouds: clouds.clone() };
    BTreeMap::from([
        ("checkout", Arc::new(checkout) as Arc<dyn Stage>),
        ("script", Arc::new(script)),
        ("upload", Arc::new(upload)),
        ("bake", Arc::new(bake)),
        ("deploy", Arc::new(deploy)),
        ("certify", Arc::new(certify)),
    ])
}

/// Finds out from git what a promotion would ship.
struct GitSurveyor(Arc<Sources>);

#[async_trait]
impl Surveyor for GitSurveyor {
    async fn survey(&self, origin: &Origin, running: &CommitSha) -> Result<Shipment, String> {
        let (Some(source), Some(commit)) = (&origin.source, &origin.commit) else {
            return Err("the run has no commit to compare with what runs".to_owned());
        };
        let address = Address::parse(source, Path::new("/")).map_err(|error| error.to_string())?;
        let between =
            self.0.between(&address, running, &commit.sha).await.map_err(|error| error.to_string())?;
        Ok(Shipment {
            commits: between.commits,
            authors: between.authors,
            files: between.files,
            rollback: between.rollback,
            ..Shipment::default()
        })
    }
}
