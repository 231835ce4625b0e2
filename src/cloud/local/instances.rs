//! Instances: their records, and how one comes to be, is seen, and goes.
//!
//! A launch has two locks, and the kernel drops both when their holder is killed. `.lock` is held
//! while a name, a key and a port are given out, which ends with the record on disk. The instance's
//! own `lock` is held while it is started; the new process inherits it and gives it back when it is
//! registered. So whoever holds that lock knows: a whole registration names the process, and without
//! one nothing was started, and starting it is right.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk::{self, failed, found};
use super::images::Manifest;
use super::process::{self, Belongings, Identity, Life};
use super::{Local, ports, tree};
use crate::cloud::inventory::{Kind, Thing};
use crate::cloud::{Error, Instance, InstanceState, Launch, Tags};
use crate::ids::{Digest, FleetId, ImageId, InstanceId, Key};

#[cfg(test)]
mod tests;

/// The version of the stored format of [`Record`].
const FORMAT: u32 = 1;

/// What people are shown of an instance's output when it failed.
const LAST_LINES: usize = 10;

/// Looked at for these lines, in bytes; a longer line is cut.
const LAST_BYTES: u64 = 4096;

/// What explains an instance. The environment is not in it: it may hold secrets, and whoever
/// launches the key again brings it along.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    id: InstanceId,
    name: String,
    fleet: FleetId,
    image: ImageId,
    release: Digest,
    tags: Tags,
    key: Key,
    address: SocketAddr,
    launched_at: Timestamp,
    /// Why it could never be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl Record {
    fn instance(self, state: InstanceState) -> Instance {
        Instance {
            id: self.id,
            name: self.name,
            fleet: self.fleet,
            image: self.image,
            release: self.release,
            key: self.key,
            state,
            address: self.address,
            launched_at: self.launched_at,
        }
    }
}

impl Record {
    fn thing(self) -> Thing {
        let thing = Thing::new(Kind::Instance, self.id.as_str(), self.launched_at);
        Thing {
            name: Some(self.name),
            service: Some(self.tags.service),
            run: Some(self.tags.run),
            stage: self.tags.stage.parse().ok(),
            key: Some(self.key),
            fleet: Some(self.fleet),
            release: Some(self.release),
            image: Some(self.image),
            ..thing
        }
    }
}

/// Where an instance lives.
#[derive(Debug, Clone)]
struct Place(PathBuf);

impl Place {
    fn record_path(&self) -> PathBuf {
        self.0.join("instance.json")
    }
    fn root(&self) -> PathBuf {
        self.0.join("root")
    }
    fn home(&self) -> PathBuf {
        self.0.join("home")
    }
    fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }
    fn output(&self) -> PathBuf {
        self.0.join("output.log")
    }

    fn record(&self) -> Result<Option<Record>, Error> {
        disk::read(&self.record_path(), FORMAT)
    }

    /// Waits for the instance's lock. `None` when the instance is gone.
    fn lock(&self) -> Result<Option<fs::File>, Error> {
        let path = self.0.join("lock");
        let here = failed(&path);
        loop {
            let open = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let Some(file) = found(open).map_err(&here)? else { return Ok(None) };
            file.lock().map_err(&here)?;
            // Whoever had it may have removed the instance, and another one may have its name.
            let held = file.metadata().map_err(&here)?;
            match found(fs::metadata(&path)).map_err(&here)? {
                Some(there) if there.ino() == held.ino() && there.dev() == held.dev() => {
                    return Ok(Some(file));
                }
                _ => {}
            }
        }
    }

    fn state(&self, record: &Record) -> InstanceState {
        if let Some(reason) = &record.failure {
            return InstanceState::Failed { reason: reason.clone() };
        }
        match Identity::read(&process::registration(&self.0)).map(|process| process.life(&self.0)) {
            None => InstanceState::Pending,
            Some(Life::Running) => InstanceState::Running,
            Some(Life::Over { how }) => {
                let how = how.unwrap_or_else(|| "it ended; its exit code is not known".to_owned());
                InstanceState::Failed { reason: self.with_output(how) }
            }
        }
    }

    /// The sentence, and the last lines of what the instance said.
    fn with_output(&self, sentence: String) -> String {
        let tail = || {
            let mut file = fs::File::open(self.output())?;
            let length = file.metadata()?.len();
            file.seek(io::SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(LAST_BYTES).read_to_end(&mut bytes)?;
            io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = tail().unwrap_or_default();
        let lines: Vec<String> = text.lines().map(|line| line.replace(char::is_control, " ")).collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        match last.iter().all(|line| line.trim().is_empty()) {
            true => format!("{sentence}, and said nothing"),
            false => format!("{sentence}; the last it said:\n{}", last.join("\n")),
        }
    }
}

impl Local {
    fn instances_directory(&self) -> PathBuf {
        self.data.join("instances")
    }

    fn place(&self, id: &InstanceId) -> Place {
        Place(self.instances_directory().join(id.as_str()))
    }

    /// The record that stays of an instance that was terminated.
    fn ended_path(&self, key: &Key) -> PathBuf {
        self.instances_directory().join(".ended").join(format!("{key}.json"))
    }

    pub(super) fn launch_now(&self, launch: &Launch) -> Result<Instance, Error> {
        let image = self.image_now(&launch.image)?;
        loop {
            let record = match self.recorded(launch)? {
                Recorded::Here(record) => record,
                Recorded::Ended(record) => return Ok(record.instance(InstanceState::Terminated)),
            };
            // It went meanwhile: look again what became of it.
            if let Some(instance) = self.started(&record, launch, &image)? {
                return Ok(instance);
            }
        }
    }

    /// Finds the record of the key, or makes it.
    fn recorded(&self, launch: &Launch) -> Result<Recorded, Error> {
        let directory = self.instances_directory();
        disk::make_directory(&directory)?;
        let path = directory.join(".lock");
        let lock = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = lock.and_then(|file| file.lock().map(|()| file)).map_err(failed(&path))?;

        // In this order: what is terminated gets its last record before it loses the first.
        let records = self.records()?;
        let ended = || disk::read::<Record>(&self.ended_path(&launch.key), FORMAT);
        if let Some(record) = records.iter().find(|record| record.key == launch.key) {
            return same(record, launch).map(|()| Recorded::Here(record.clone()));
        }
        if let Some(record) = ended()? {
            return same(&record, launch).map(|()| Recorded::Ended(record));
        }
        let id: InstanceId = launch.name.parse().map_err(|error| Error::Failed(format!("{error}")))?;
        if let Some(other) = records.iter().find(|record| record.id == id) {
            let text = format!("the name {id} belongs to the instance of {}", other.key);
            return Err(Error::Conflict(text));
        }
        let ours = records.iter().map(|record| record.address.port());
        let taken: BTreeSet<u16> = ours.chain(ports::of_listeners(&self.data)).collect();
        let Some(port) = ports::free(&taken) else {
            return Err(Error::NoCapacity("no port for another instance is free".to_owned()));
        };
        let record = Record {
            id: id.clone(),
            name: launch.name.clone(),
            fleet: launch.fleet.clone(),
            image: launch.image.clone(),
            release: launch.release.clone(),
            tags: launch.tags.clone(),
            key: launch.key.clone(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            launched_at: Timestamp::now(),
            failure: None,
        };
        let place = self.place(&id);
        // What is there without a record was left by a kill just before the record was written.
        tree::remove(&place.0)?;
        fs::create_dir(&place.0).map_err(failed(&place.0))?;
        disk::write(&place.record_path(), FORMAT, &record)?;
        disk::sync(&directory).map_err(failed(&directory))?;
        drop(lock);
        Ok(Recorded::Here(record))
    }

    /// Starts the instance unless that was done. `None` when it is gone.
    fn started(&self, record: &Record, launch: &Launch, image: &Manifest) -> Result<Option<Instance>, Error> {
        let place = self.place(&record.id);
        let Some(lock) = place.lock()? else { return Ok(None) };
        let Some(mut record) = place.record()?.filter(|now| now.key == record.key) else { return Ok(None) };
        let registration = process::registration(&place.0);
        if record.failure.is_none() && Identity::read(&registration).is_none() {
            if let Err(error) = self.start(&place, &record, launch, image, &lock) {
                // Nothing runs, so nothing is to be explained: the same key may try again.
                self.vanish(&place, &record.key)?;
                return Err(error);
            }
            drop(lock);
            let Some(_lock) = place.lock()? else { return Ok(None) };
            if Identity::read(&registration).is_none() {
                let reason = "its process ended before it could run the start command".to_owned();
                record.failure = Some(place.with_output(reason));
                disk::write(&place.record_path(), FORMAT, &record)?;
            }
        }
        let state = place.state(&record);
        Ok(Some(record.instance(state)))
    }

    /// Prepares the instance's directories and starts its process, which takes the lock along.
    fn start(
        &self,
        place: &Place,
        record: &Record,
        launch: &Launch,
        image: &Manifest,
        lock: &fs::File,
    ) -> Result<(), Error> {
        // What is there was left by a kill in the middle of this.
        for part in [place.root(), place.home(), place.temporary(), process::registration(&place.0)] {
            tree::remove(&part)?;
        }
        tree::copy(&self.image_directory(&record.image).join("root"), &place.root())?;
        disk::make_directory(&place.home())?;
        disk::make_directory(&place.temporary())?;
        let output = place.output();
        let output =
            fs::OpenOptions::new().append(true).create(true).open(&output).map_err(failed(&output))?;
        let start = process::Start {
            command: &image.record.start,
            directory: &place.0,
            app: &place.root().join("app"),
            env: environment(place, record, launch, image),
            output,
            lock: lock.try_clone().map_err(failed(&place.0))?,
        };
        process::start(start).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
                Error::NoCapacity(format!("no process can be started for {}: {error}", record.id))
            }
            _ => Error::Failed(format!("{} could not be started: {error}", record.id)),
        })
    }

    pub(super) fn instances_now(&self, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
        let mut records = self.records()?;
        records.retain(|record| record.fleet == *fleet);
        records.sort_by(|a, b| (a.launched_at, &a.id).cmp(&(b.launched_at, &b.id)));
        let observed = records.into_iter().map(|record| {
            let state = self.place(&record.id).state(&record);
            record.instance(state)
        });
        Ok(observed.collect())
    }

    /// The same, as things that somebody may have forgotten.
    pub(super) fn instance_things(&self) -> Result<Vec<Thing>, Error> {
        Ok(self.records()?.into_iter().map(Record::thing).collect())
    }

    /// Of all instances that were not terminated, in any fleet.
    /// Reads the record of an instance, if it is there.
    pub(super) fn record_of(&self, id: &InstanceId) -> Result<(), Error> {
        self.place(id).record().map(drop)
    }

    fn records(&self) -> Result<Vec<Record>, Error> {
        let directory = self.instances_directory();
        let Some(entries) = found(fs::read_dir(&directory)).map_err(failed(&directory))? else {
            return Ok(Vec::new());
        };
        let mut records = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed(&directory))?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse().ok()) {
                records.extend(self.place(&id).record()?);
            }
        }
        Ok(records)
    }

    /// Killed anywhere in here, the instance is still there and is terminated again.
    pub(super) fn terminate_now(&self, id: &InstanceId) -> Result<(), Error> {
        let place = self.place(id);
        // Held to the end: nobody starts it meanwhile.
        let Some(_lock) = place.lock()? else { return Ok(()) };
        let Some(record) = place.record()? else { return Ok(()) };
        let first = Identity::read(&process::registration(&place.0));
        process::end(&Belongings { first, home: place.home() }, process::GRACE)?;
        tracing::debug!(instance = %id, "{}", place.with_output("terminated".to_owned()));

        let ended = self.ended_path(&record.key);
        disk::make_directory(ended.parent().unwrap_or(Path::new("/")))?;
        disk::write(&ended, FORMAT, &record)?;
        self.vanish(&place, &record.key)
    }

    /// Waits, from now on, for the end of instances that are children of this process: those that it
    /// launched as another program.
    pub fn adopt(&self) {
        for record in self.records().unwrap_or_default() {
            process::adopt(&self.place(&record.id).0);
        }
    }

    /// Returns when one of these has no running process, at the latest after `patience`.
    pub(super) async fn await_end(&self, running: &[InstanceId], patience: Duration) -> Result<(), Error> {
        let mut ends = Vec::new();
        for id in running {
            let identity = Identity::read(&process::registration(&self.place(id).0));
            let Some(identity) = identity else { return Ok(()) };
            let watched =
                |error: io::Error| Error::Failed(format!("the end of {id} cannot be awaited: {error}"));
            match identity.descriptor().map_err(watched)? {
                Some(descriptor) => ends.push(crate::wake::readable(descriptor).map_err(watched)?),
                None => return Ok(()),
            }
        }
        if ends.is_empty() {
            tokio::time::sleep(patience).await;
            return Ok(());
        }
        // A process descriptor becomes readable at the end of its process.
        let first = futures_util::future::select_all(ends.iter().map(|end| Box::pin(end.readable())));
        let _ = tokio::time::timeout(patience, first).await;
        Ok(())
    }

    /// Takes an instance's directory away, at once: its name may be given out again while the rest
    /// is being removed. The caller holds its lock.
    fn vanish(&self, place: &Place, key: &Key) -> Result<(), Error> {
        let gone = self.instances_directory().join(".gone");
        disk::make_directory(&gone)?;
        // Also what a kill in the middle of this left.
        for left in fs::read_dir(&gone).map_err(failed(&gone))?.flatten() {
            tree::remove(&left.path())?;
        }
        let to = gone.join(key.as_str());
        fs::rename(&place.0, &to).map_err(failed(&place.0))?;
        disk::sync(&self.instances_directory()).map_err(failed(&self.instances_directory()))?;
        tree::remove(&to)
    }
}

/// What is known of a key.
enum Recorded {
    Here(Record),
    Ended(Record),
}

/// A key stands for one launch only.
fn same(record: &Record, launch: &Launch) -> Result<(), Error> {
    let known = (&record.fleet, &record.image, &record.release);
    match known == (&launch.fleet, &launch.image, &launch.release) {
        true => Ok(()),
        false => Err(Error::Conflict(format!(
            "the key {} belongs to {}, which runs something else",
            launch.key, record.id
        ))),
    }
}

/// All that a service is given: the fleet's variables, and over them what only the instance knows.
fn environment(place: &Place, record: &Record, launch: &Launch, image: &Manifest) -> Vec<(String, String)> {
    let inherited = |name: &str, otherwise: &str| {
        (name.to_owned(), std::env::var(name).unwrap_or_else(|_| otherwise.to_owned()))
    };
    let image_name = image.record.name.as_str();
    let version = image_name.strip_prefix(&format!("{}-", image.record.service)).unwrap_or(image_name);
    let own = [
        ("HOME", place.home().display().to_string()),
        ("TMPDIR", place.temporary().display().to_string()),
        ("PORT", record.address.port().to_string()),
        ("WINDLASS_SERVICE", record.fleet.service.to_string()),
        ("WINDLASS_ENVIRONMENT", record.fleet.environment.to_string()),
        ("WINDLASS_INSTANCE", record.name.clone()),
        ("WINDLASS_VERSION", version.to_owned()),
    ];
    let mut all = vec![inherited("PATH", "/usr/local/bin:/usr/bin:/bin"), inherited("LANG", "C.UTF-8")];
    all.extend(launch.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    all.extend(own.map(|(name, value)| (name.to_owned(), value)));
    all
}
