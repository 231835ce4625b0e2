//! The object store, and what there is of all kinds, as a process reaches them.

use std::path::Path;

use async_trait::async_trait;
use jiff::Timestamp;
use windlass::cloud::inventory::{Inventory, Kind, Thing};
use windlass::cloud::{Error, Objects, objects};
use windlass::ids::{Digest, InstanceId};

use super::{Reached, State};

fn failed(error: std::io::Error) -> Error {
    Error::Failed(error.to_string())
}

#[async_trait]
impl Objects for Reached {
    async fn put(&self, key: &str, file: &Path, digest: &Digest) -> Result<(), Error> {
        objects::check_key(key)?;
        if objects::digest_of(file).map_err(failed)? != *digest {
            return Err(Error::Failed(format!("{} has another digest than {digest}", file.display())));
        }
        let bytes = std::fs::read(file).map_err(failed)?;
        let put = |state: &mut State, _| {
            state.objects.insert(key.to_owned(), (digest.clone(), bytes));
            Ok(())
        };
        self.effect(|| format!("put {key}"), put).await
    }

    async fn get(&self, key: &str, to: &Path) -> Result<(), Error> {
        objects::check_key(key)?;
        let found = self.look(key, |state, _| state.objects.get(key).cloned()).await;
        let (_, bytes) = found.ok_or_else(|| Error::NotFound(key.to_owned()))?;
        std::fs::write(to, bytes).map_err(failed)
    }

    async fn digest(&self, key: &str) -> Result<Option<Digest>, Error> {
        objects::check_key(key)?;
        Ok(self.look(key, |state, _| state.objects.get(key).map(|(digest, _)| digest.clone())).await)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let keys = |state: &State, _| {
            state.objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect::<Vec<_>>()
        };
        Ok(self.look(prefix, keys).await)
    }

    fn location(&self, key: &str) -> String {
        format!("simulated:///{key}")
    }
}

#[async_trait]
impl Inventory for Reached {
    async fn things(&self) -> Result<Vec<Thing>, Error> {
        let things = |state: &State, _| {
            let servers = state.servers.values().filter(|server| !server.ended);
            let servers = servers.map(|server| Thing {
                fleet: Some(server.instance.fleet.clone()),
                release: Some(server.instance.release.clone()),
                image: Some(server.instance.image.clone()),
                key: Some(server.instance.key.clone()),
                ..Thing::new(Kind::Instance, server.instance.id.to_string(), server.instance.launched_at)
            });
            let builders = state.builders.iter().map(|(key, request)| {
                Thing::new(Kind::Builder, key, Timestamp::UNIX_EPOCH).of_attempt(request.key.as_str())
            });
            servers.chain(builders).collect::<Vec<_>>()
        };
        Ok(self.look("things", things).await)
    }

    async fn end(&self, thing: &Thing) -> Result<(), Error> {
        let end = |state: &mut State, _| {
            let id = thing.id.parse::<InstanceId>().ok();
            if let Some(server) = id.and_then(|id| state.servers.get_mut(&id)) {
                server.ended = true;
            }
            state.builders.remove(&thing.id);
            Ok(())
        };
        self.effect(|| format!("end {}", thing.id), end).await
    }
}
