//! From one pipeline, and what came in, to a run.

use jiff::SignedDuration;

use super::Shared;
use super::catalog::Listed;
use super::handle::{Due, GITHUB};
use super::origin;
use crate::config::Settings;
use crate::github::{self, Change, Described};
use crate::ids::{CommitSha, RunId};
use crate::pipeline::model::{Kind, Stage};
use crate::run::event::{Actor, Commit, Origin, Trigger};
use crate::source::{self, Address, Since, Want};
use crate::store::Delivery;

/// A commit that was pushed may not be on all of GitHub's machines yet: it is looked for so long.
const SPREADING: SignedDuration = SignedDuration::from_secs(60);

/// A source that cannot be reached for so long is given up.
const GIVEN_UP: SignedDuration = SignedDuration::from_hours(24);

/// What came of a delivery for one pipeline.
pub enum Came {
    Started {
        run: RunId,
        note: Option<String>,
    },
    Declined(String),
    Failed(String),
    /// The world failed; it is tried again.
    Later {
        why: String,
        patience: SignedDuration,
    },
}

impl From<source::Error> for Came {
    fn from(error: source::Error) -> Self {
        use source::Error;
        match error {
            Error::UnknownRevision { .. } => Self::Later { why: error.to_string(), patience: SPREADING },
            Error::Git { .. } | Error::NoGit(_) | Error::Disk { .. } => {
                Self::Later { why: error.to_string(), patience: GIVEN_UP }
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What may start a run of one pipeline.
pub struct Start<'a> {
    pub shared: &'a Shared,
    pub settings: &'a Settings,
    pub listed: &'a Listed,
}

/// Which commit is wanted, and where it was said to be.
struct Fetch<'a> {
    reference: &'a str,
    commit: &'a CommitSha,
}

/// A commit of which there is all that the run starts with.
struct Brought {
    address: Address,
    commit: Commit,
    note: Option<String>,
}

impl Start<'_> {
    pub async fn on_push(&self, delivery: &Delivery, push: &github::Push) -> Came {
        let Some(rules) = &self.listed.pipeline.on.push else {
            return Came::Declined("pushes do not start it".to_owned());
        };
        let taken = push.branch().is_some_and(|branch| rules.takes_branch(branch))
            || push.tag().is_some_and(|tag| rules.takes_tag(tag));
        if !taken {
            return Came::Declined(format!("pushes to {} do not start it", push.reference));
        }
        let since = match (&push.change, &push.default_branch) {
            (Change::Since(commit), _) => Since::Commit(commit.clone()),
            (Change::Anew, Some(branch)) if push.branch() != Some(branch) => Since::Branch(branch.clone()),
            (Change::Anew, _) => Since::Nothing,
        };
        // A tag changes no files.
        let paths = push.branch().filter(|_| !rules.paths.is_empty());
        let fetch = Fetch { reference: &push.reference, commit: &push.commit };
        let takes = |files: &[String]| rules.takes_paths(files.iter().map(String::as_str));
        let brought = match (paths, &push.described) {
            (None, Some(described)) if !self.needs_source() => self.told(push, described),
            _ => self.bring(fetch, paths.map(|_| since), takes).await,
        };
        let brought = match brought {
            Ok(brought) => brought,
            Err(came) => return came,
        };
        let actor = sender(push.sender.as_deref());
        let trigger = Trigger::Push { delivery: delivery.key.id.clone() };
        self.start(delivery, trigger, actor, brought, |origin| Origin {
            reference: Some(push.reference.clone()),
            ..origin
        })
        .await
    }

    pub async fn on_pull_request(&self, delivery: &Delivery, request: &github::PullRequest) -> Came {
        let Some(rules) = &self.listed.pipeline.on.pull_request else {
            return Came::Declined("pull requests do not start it".to_owned());
        };
        if !rules.takes_branch(&request.base) {
            return Came::Declined(format!("pull requests for {} do not start it", request.base));
        }
        let since = (!rules.paths.is_empty()).then(|| Since::Branch(request.base.clone()));
        let reference = format!("refs/heads/{}", request.branch);
        let fetch = Fetch { reference: &reference, commit: &request.commit };
        let takes = |files: &[String]| rules.takes_paths(files.iter().map(String::as_str));
        let brought = match self.bring(fetch, since, takes).await {
            Ok(brought) => brought,
            Err(came) => return came,
        };
        if let Some(word) = github::skips(&brought.commit.message) {
            return Came::Declined(format!("the message of its newest commit says {word}"));
        }
        let actor = sender(request.sender.as_deref());
        let trigger = Trigger::PullRequest { delivery: delivery.key.id.clone(), number: request.number };
        self.start(delivery, trigger, actor, brought, |origin| Origin {
            reference: Some(format!("refs/pull/{}/head", request.number)),
            until: rules.until.clone(),
            ..origin
        })
        .await
    }

    pub async fn on_schedule(&self, due: &Due, branch: Option<&str>) -> Came {
        let address = match origin::address(self.listed, self.settings) {
            Ok(address) => address,
            Err(why) => return Came::Failed(why),
        };
        let commit = match address {
            None => None,
            Some(address) => {
                let want = branch.map_or(Want::Head, |branch| Want::Branch(branch.to_owned()));
                match self.shared.sources.resolve(&address, &want).await {
                    Ok(commit) => Some((address, commit)),
                    Err(error) => return error.into(),
                }
            }
        };
        let params = match origin::params(&self.listed.pipeline, &Default::default()) {
            Ok(params) => params,
            Err(error) => return Came::Failed(error.to_string()),
        };
        let branch_of =
            commit.as_ref().map(|(_, commit)| commit.branch.clone()).filter(|name| !name.is_empty());
        let actor = Actor { name: "policy:schedule".to_owned(), verified: true };
        let trigger = Trigger::Schedule { due: due.due };
        let origin = origin::origin(self.listed, self.settings, params, trigger, actor, commit);
        let origin = Origin { reference: branch_of.map(|branch| format!("refs/heads/{branch}")), ..origin };
        let key = format!("schedule:{}@{}:{}", due.pipeline, due.due, branch.unwrap_or_default());
        self.create(origin, key, None).await
    }

    /// Whether a run of it may look at files or at what lies between commits. One of commands alone does
    /// not, and does not wait for its source either.
    fn needs_source(&self) -> bool {
        let commands = |stage: &Stage| matches!(stage.kind, Kind::Script(_)) && stage.environment.is_none();
        !self.listed.pipeline.stages.iter().all(commands)
    }

    /// The commit as the webhook, which is signed, describes it.
    fn told(&self, push: &github::Push, described: &Described) -> Result<Brought, Came> {
        let Described { author, message } = described.clone();
        let branch = push.branch().unwrap_or_default().to_owned();
        let commit = Commit { sha: push.commit.clone(), branch, author, message };
        Ok(Brought { address: self.address()?, commit, note: None })
    }

    fn address(&self) -> Result<Address, Came> {
        let address = origin::address(self.listed, self.settings).map_err(Came::Failed)?;
        address.ok_or_else(|| Came::Failed("it has no source".to_owned()))
    }

    /// Fetches the commit, and looks whether the files that it changes `since` then are taken.
    async fn bring(
        &self,
        fetch: Fetch<'_>,
        since: Option<Since>,
        takes: impl Fn(&[String]) -> bool,
    ) -> Result<Brought, Came> {
        let address = self.address()?;
        let commit = self.shared.sources.bring(&address, fetch.reference, fetch.commit).await?;
        let Some(since) = since else { return Ok(Brought { address, commit, note: None }) };
        match self.shared.sources.changed(&address, &since, fetch.commit).await {
            Ok(files) if takes(&files) => Ok(Brought { address, commit, note: None }),
            Ok(files) => Err(Came::Declined(match files.len() {
                1 => "the file that changed does not start it".to_owned(),
                count => format!("none of the {count} files that changed start it"),
            })),
            Err(error) => {
                let note = format!("it was started although which files changed is not known: {error}");
                Ok(Brought { address, commit, note: Some(note) })
            }
        }
    }

    async fn start(
        &self,
        delivery: &Delivery,
        trigger: Trigger,
        actor: Actor,
        brought: Brought,
        finish: impl FnOnce(Origin) -> Origin,
    ) -> Came {
        let params = match origin::params(&self.listed.pipeline, &Default::default()) {
            Ok(params) => params,
            Err(error) => return Came::Failed(error.to_string()),
        };
        let commit = Some((brought.address, brought.commit));
        let origin = finish(origin::origin(self.listed, self.settings, params, trigger, actor, commit));
        let key = format!("{}:{}:{}", delivery.key.source, delivery.key.id, self.listed.pipeline.name);
        self.create(origin, key, brought.note).await
    }

    async fn create(&self, origin: Origin, key: String, note: Option<String>) -> Came {
        let run = match self.shared.engine.create(self.listed.pipeline.name.clone(), origin, Some(key)).await
        {
            Ok(run) => run,
            Err(error) => return Came::Later { why: error.to_string(), patience: GIVEN_UP },
        };
        match self.shared.engine.drive(&run).await {
            Ok(_) => Came::Started { run, note },
            // It is created, so it is not lost: who drives every run drives it as well.
            Err(error) => {
                let note = format!("{run} cannot be driven: {error}");
                Came::Started { run, note: Some(note) }
            }
        }
    }
}

/// The signature proves that GitHub says who it was.
fn sender(login: Option<&str>) -> Actor {
    let named = login.and_then(|login| Actor::named(login).ok());
    named.map_or_else(|| Actor::unverified(GITHUB), |actor| Actor { verified: true, ..actor })
}
