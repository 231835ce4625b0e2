//! One shell step through the runner, for every kind of stage that has some.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{stopped, stopping};
use super::{Attempt, Work};
use crate::log;
use crate::pipeline::model::ShellStep;
use crate::run::event::{Cause, Failure};
use crate::runner::{self, Exit, ExitStatus, GRACE, LATE, Runner, StartStep};
use crate::secret::Secret;
use crate::space;

/// How long a stage of shell steps may take to stop: what a cancelled step may take, with the time that
/// it takes to say so.
pub const STOP_BOUND: Duration = GRACE.saturating_add(LATE);

/// How long a runner that cannot be reached is asked again, and the pause before each time.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// What the shell steps of an attempt share.
pub struct Shell {
    pub runner: Arc<dyn Runner>,
    pub directory: PathBuf,
    pub env: BTreeMap<String, String>,
    /// What must not appear in logs and outputs.
    pub mask: Vec<Secret>,
}

impl Shell {
    /// Runs the attempt's next step, or goes on waiting for it where an earlier process started it.
    pub async fn run(&self, attempt: &mut Attempt, step: &ShellStep) -> Result<(), Failure> {
        if attempt.passes_over_success() {
            return Ok(());
        }
        let id = attempt.intend(&step.name).await?;
        let start = StartStep {
            log: log::path(&attempt.data, &id),
            step: id.clone(),
            born: attempt.work.created_at,
            shell: step.shell,
            run: step.run.clone(),
            directory: self.directory.clone(),
            env: self.env.clone(),
            mask: self.mask.iter().map(|secret| secret.expose().to_owned()).collect(),
            log_limit: Some(attempt.work.settings.runner.log_limit),
        };
        let mut stop = attempt.stop_signal();
        let exit = tokio::select! {
            biased;
            _ = stopping(&mut stop) => self.runner.cancel(&id, GRACE).await,
            exit = self.ended(&start) => exit,
        };
        let (done, code, log_bytes) = match exit {
            Ok(exit) => (judge(&step.name, &exit, &start.log), code(&exit), exit.log_bytes),
            // It was to stop before the runner had heard of it.
            Err(runner::Error::Unknown(_)) if let Some(stop) = attempt.stop() => {
                (Err(stopped(stop)), None, 0)
            }
            Err(error) => (Err(Failure::infrastructure(error.to_string())), None, 0),
        };
        let done = match (done, attempt.stop()) {
            (Err(failure), Some(stop)) if failure.cause == Cause::Cancelled => Err(stopped(stop)),
            // It was being ended when that went wrong.
            (Err(failure), Some(stop)) if failure.cause == Cause::Infrastructure => {
                let Failure { cause, message, .. } = stopped(stop);
                Err(Failure::new(cause, format!("{message}: {}", failure.message)))
            }
            (done, _) => done,
        };
        let result = done.clone().map(|()| serde_json::Value::Null);
        attempt.ended(&id, result, code, log_bytes);
        done
    }

    /// How the step ended. A runner that cannot be reached is asked again for a while: what it was asked
    /// to start may be running, and nothing of a failed attempt goes on running.
    async fn ended(&self, start: &StartStep) -> Result<Exit, runner::Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.runner.run(start).await {
                Err(runner::Error::Unreachable(why)) if Instant::now() < until => {
                    tracing::warn!(step = %start.step, "the runner cannot be reached, and is asked again: {why}");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

/// Ends the shell step that an earlier process left under way, where the attempt failed before it
/// came to that step: nothing of a failed attempt goes on running.
pub async fn end_left_over(runner: &dyn Runner, attempt: &Attempt) {
    let Some(id) = attempt.left_over() else { return };
    match runner.cancel(&id, GRACE).await {
        Ok(_) | Err(runner::Error::Unknown(_)) => {}
        Err(error) => tracing::warn!(step = %id, %error, "a step that was left under way cannot be ended"),
    }
}

fn code(exit: &Exit) -> Option<i32> {
    match exit.status {
        ExitStatus::Code { code } => Some(code),
        // As a shell says it.
        ExitStatus::Signal { signal } => Some(128 + signal),
        _ => None,
    }
}

fn judge(name: &str, exit: &Exit, log: &Path) -> Result<(), Failure> {
    if let Some(limit) = exit.flooded {
        return Err(Failure::task(format!(
            "“{name}” wrote more than {} of output and was ended: let it say less, or allow more with \
             runner.log_limit in the settings",
            space::size(limit)
        )));
    }
    match &exit.status {
        ExitStatus::Code { code: 0 } => Ok(()),
        ExitStatus::Code { code } => {
            Err(Failure::task(format!("“{name}” ended with exit code {code}{}", last_words(log))))
        }
        ExitStatus::Signal { signal } => {
            let kernel = match signal {
                9 => ": the kernel does where memory runs out, and its log says so (dmesg)",
                _ => "",
            };
            Err(Failure::task(format!(
                "“{name}” was ended by signal {signal}, which Windlass did not send{kernel}"
            )))
        }
        ExitStatus::Cancelled => Err(Failure::new(Cause::Cancelled, format!("“{name}” was cancelled"))),
        ExitStatus::NotStarted { message } => {
            Err(Failure::infrastructure(format!("“{name}” could not be started: {message}")))
        }
        ExitStatus::Lost { message } => Err(Failure::infrastructure(format!("“{name}” was lost: {message}"))),
    }
}

/// The last line of a log that says something, for a failure's sentence.
fn last_words(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let tail = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2048)))?;
        let mut bytes = Vec::new();
        file.take(2048).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tail().unwrap_or_default();
    match text.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        None => String::new(),
        Some(line) => format!(": {}", line.chars().filter(|c| !c.is_control()).take(200).collect::<String>()),
    }
}

/// The environment of a shell step, besides what its kind of stage adds: nothing else is there.
pub fn environment(
    work: &Work,
    home: &Path,
    tmp: &Path,
    secrets: &[(String, Secret)],
) -> BTreeMap<String, String> {
    let inherited = |name: &str| std::env::var(name).ok();
    let mut env = BTreeMap::new();
    env.insert(
        "PATH".to_owned(),
        inherited("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned()),
    );
    env.insert("LANG".to_owned(), inherited("LANG").unwrap_or_else(|| "C.UTF-8".to_owned()));
    env.insert("HOME".to_owned(), home.display().to_string());
    env.insert("TMPDIR".to_owned(), tmp.display().to_string());
    for name in &work.settings.runner.pass {
        if let Some(value) = inherited(name).or_else(|| default_below_home(name)) {
            env.insert(name.clone(), value);
        }
    }
    env.extend(work.inputs.env.clone());
    env.extend(secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned())));
    env.extend(ours(work));
    env
}

/// What Windlass itself tells every command, wherever it runs.
pub fn ours(work: &Work) -> impl Iterator<Item = (String, String)> {
    let commit = work.origin.commit.as_ref();
    let ours = [
        ("WINDLASS_RUN", work.id.run.to_string()),
        ("WINDLASS_VERSION", work.version.clone()),
        ("WINDLASS_COMMIT", commit.map(|commit| commit.sha.to_string()).unwrap_or_default()),
        ("WINDLASS_BRANCH", commit.map(|commit| commit.branch.clone()).unwrap_or_default()),
        ("WINDLASS_STAGE", work.id.stage.to_string()),
        ("WINDLASS_ATTEMPT", work.id.attempt.to_string()),
    ];
    ours.into_iter().map(|(name, value)| (name.to_owned(), value))
}

/// Where a tool looks when a variable that steps inherit is not set: below the HOME that it no longer
/// sees, as steps have one of their own.
fn default_below_home(name: &str) -> Option<String> {
    let directory = match name {
        "CARGO_HOME" => ".cargo",
        "RUSTUP_HOME" => ".rustup",
        _ => return None,
    };
    let path = PathBuf::from(std::env::var_os("HOME")?).join(directory);
    path.is_dir().then(|| path.display().to_string())
}

/// The values of the secrets that the stage names.
pub fn secrets(work: &Work) -> Result<Vec<(String, Secret)>, Failure> {
    let resolve = |name: &String| {
        let secret = work.settings.secret(name).map_err(|error| Failure::policy(error.to_string()))?;
        Ok((name.clone(), secret))
    };
    work.stage().secrets.iter().map(resolve).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn judged(status: ExitStatus) -> Result<(), Failure> {
        let at = Timestamp::UNIX_EPOCH;
        judge(
            "Test",
            &Exit { status, started_at: at, finished_at: at, log_bytes: 0, flooded: None },
            Path::new("/nowhere"),
        )
    }

    #[test]
    fn each_end_of_a_step_has_its_cause() {
        let message = || "it is so".to_owned();
        assert_eq!(judged(ExitStatus::Code { code: 0 }), Ok(()));
        for (status, cause, says) in [
            (ExitStatus::Code { code: 3 }, Cause::Task, "exit code 3"),
            (ExitStatus::Signal { signal: 9 }, Cause::Task, "where memory runs out"),
            (ExitStatus::Signal { signal: 11 }, Cause::Task, "signal 11, which Windlass did not send"),
            (ExitStatus::Cancelled, Cause::Cancelled, "was cancelled"),
            (ExitStatus::NotStarted { message: message() }, Cause::Infrastructure, "it is so"),
            (ExitStatus::Lost { message: message() }, Cause::Infrastructure, "it is so"),
        ] {
            let failure = judged(status).unwrap_err();
            assert_eq!(failure.cause, cause, "{failure:?}");
            assert!(failure.message.contains(says), "{failure:?}");
        }
    }
}
