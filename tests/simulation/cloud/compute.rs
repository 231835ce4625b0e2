//! Images and instances, as a process reaches them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use windlass::cloud::{
    BuildRequest, Builder, Compute, Error, ImageRecord, ImageRequest, Instance, InstanceState, Launch, Phase,
    Provisioning, TargetState,
};
use windlass::ids::{Digest, FleetId, ImageId, InstanceId};

use super::{Ground, State, target};
use crate::clock;
use crate::world::Life;

/// The cloud as one process reaches it.
#[derive(Clone)]
pub struct Reached(pub Arc<Life>);

const DISTANT_PHASES: [Phase; 5] = [Phase::Stop, Phase::Create, Phase::Await, Phase::Describe, Phase::End];

impl Reached {
    pub(super) fn ground(&self) -> &Ground {
        &self.0.world.ground
    }

    pub(super) async fn wire(&self, what: &str) {
        let (least, most) = if self.ground().is_distant() { (20, 400) } else { (0, 4) };
        self.0.alive().await;
        self.0.world.latency(what, least, most).await;
        self.0.alive().await;
    }

    /// Something that changes the cloud: the process may die before it, and before it hears of it.
    pub(super) async fn effect<T>(
        &self,
        what: impl Fn() -> String,
        act: impl FnOnce(&mut State, Duration) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let what = what();
        self.0.moment(&what).await;
        self.wire(&what).await;
        let done = act(&mut self.ground().state(), clock::elapsed());
        let said = || match &done {
            Ok(_) => format!("process {}: {what}", self.0.number),
            Err(error) => format!("process {}: {what}: {error}", self.0.number),
        };
        self.0.world.tell(said);
        self.ground().has_changed();
        self.wire(&what).await;
        self.0.moment(&what).await;
        done
    }

    pub(super) async fn look<T>(&self, what: &str, look: impl FnOnce(&State, Duration) -> T) -> T {
        self.wire(what).await;
        let seen = look(&self.ground().state(), clock::elapsed());
        self.wire(what).await;
        seen
    }

    fn insist(&self, allowed: Result<(), String>) {
        allowed.unwrap_or_else(|broken| self.0.world.broken(broken));
    }

    /// A machine takes its time, as the seed says.
    async fn takes(&self, what: &str, most: u64) {
        if self.ground().is_distant() {
            let time = self.0.world.fate(what).between(1, most);
            tokio::time::sleep(Duration::from_secs(time)).await;
        }
    }
}

fn not_found(what: impl ToString) -> Error {
    Error::NotFound(what.to_string())
}

#[async_trait]
impl Compute for Reached {
    async fn find_image(&self, key: &Digest) -> Result<Option<ImageRecord>, Error> {
        Ok(self.look(key.short(), |state, _| state.images.get(key).cloned()).await)
    }

    async fn image(&self, id: &ImageId) -> Result<ImageRecord, Error> {
        let found = self
            .look(id.as_str(), |state, _| state.images.values().find(|image| image.id == *id).cloned())
            .await;
        found.ok_or_else(|| not_found(id))
    }

    async fn certify_image(&self, id: &ImageId) -> Result<(), Error> {
        self.effect(
            || format!("certify {id}"),
            |state, _| {
                let found = state.images.values_mut().find(|image| image.id == *id);
                found.map(|image| image.certified = true).ok_or_else(|| not_found(id))
            },
        )
        .await
    }

    async fn launch_builder(&self, request: &BuildRequest, image: &ImageRequest) -> Result<Builder, Error> {
        let working = self.0.world.ledger().is_working(request.key.as_str());
        if !working {
            self.0
                .world
                .broken(format!("a builder is launched for {}, which no record intends", request.key));
        }
        let distant = self.ground().is_distant();
        // Where it provisions itself it belongs to the image, whoever asks for it.
        let key = if distant { image.key.to_string() } else { request.key.to_string() };
        let insert = |state: &mut State, _| {
            state.builders.insert(key, request.clone());
            Ok(())
        };
        self.effect(|| format!("launch builder {}", request.key), insert).await?;
        let provisioning = match distant {
            true => Provisioning::There,
            false => {
                // Nothing is ever put there.
                let directory = PathBuf::from("/nowhere/builders").join(request.key.as_str());
                Provisioning::Here { directory }
            }
        };
        Ok(Builder { key: request.key.clone(), provisioning })
    }

    async fn provisioned(&self, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
        let there =
            self.look(image.key.short(), |state, _| state.builders.contains_key(image.key.as_str())).await;
        if !there {
            return Err(not_found(format!("the builder of {}", image.name)));
        }
        self.takes(&format!("provision {}", image.key), 600).await;
        match self.0.world.fate(&format!("provision {}", request.key)).chance(60) {
            true => Err(Error::Provision { message: "./provision ended".to_owned(), exit_code: Some(2) }),
            false => Ok(()),
        }
    }

    async fn abandon(&self, _: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
        let remove = |state: &mut State, _| {
            state.builders.remove(image.key.as_str());
            Ok(())
        };
        self.effect(|| format!("abandon {}", image.name), remove).await
    }

    fn phases(&self) -> &'static [Phase] {
        if self.ground().is_distant() { &DISTANT_PHASES } else { &[Phase::Create] }
    }

    async fn carry_out(
        &self,
        phase: Phase,
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<(), Error> {
        self.takes(&format!("{phase:?} {}", image.key), 240).await;
        let distant = self.ground().is_distant();
        let key = if distant { image.key.to_string() } else { request.key.to_string() };
        let act = |state: &mut State, _| {
            match phase {
                Phase::Create if !state.images.contains_key(&image.key) => {
                    if !state.builders.contains_key(&key) {
                        return Err(not_found(format!("the builder of {}", image.name)));
                    }
                    let record = ImageRecord {
                        id: format!("img-{}", image.key.short()).parse().expect("a legal id"),
                        name: image.name.clone(),
                        key: image.key.clone(),
                        parent: image.parent.clone(),
                        commit: image.commit.clone(),
                        run: request.tags.run.clone(),
                        service: request.tags.service.clone(),
                        start: image.start.clone(),
                        created_at: Timestamp::now(),
                        certified: false,
                    };
                    state.images.insert(image.key.clone(), record);
                }
                Phase::End => drop(state.builders.remove(&key)),
                _ => {}
            }
            Ok(())
        };
        self.effect(|| format!("{} {}", phase.title(), image.name), act).await
    }

    async fn room_for(&self, _: &Launch, _: u32) -> Result<(), Error> {
        self.wire("room").await;
        self.room()
    }

    fn beat(&self) -> Duration {
        Duration::from_secs(if self.ground().is_distant() { 30 } else { 1 })
    }

    async fn launch(&self, launch: &Launch) -> Result<Instance, Error> {
        self.insist(self.0.world.ledger().may_launch(launch.key.as_str()));
        let act = |state: &mut State, now: Duration| {
            if let Some(found) = state.servers.values().find(|server| server.instance.key == launch.key) {
                return match found.instance.release == launch.release {
                    true => Ok(Instance { state: found.state(now), ..found.instance.clone() }),
                    false => Err(Error::Conflict(format!("{} is in use for another release", launch.key))),
                };
            }
            if !state.images.values().any(|image| image.id == launch.image) {
                return Err(not_found(&launch.image));
            }
            self.room()?;
            let n = state.servers.len() + 1;
            let instance = Instance {
                id: format!("i-{n:04}").parse().expect("a legal id"),
                name: launch.name.clone(),
                fleet: launch.fleet.clone(),
                image: launch.image.clone(),
                release: launch.release.clone(),
                key: launch.key.clone(),
                state: InstanceState::Pending,
                address: SocketAddr::from(([127, 0, 0, 1], 20_000 + n as u16)),
                launched_at: Timestamp::now(),
            };
            let good = state.good.contains(&launch.image);
            let server = self.ground().server(instance.clone(), self.0.number, now, good);
            state.servers.insert(instance.id.clone(), server);
            Ok(instance)
        };
        self.effect(|| format!("launch {} under {}", launch.name, launch.key), act).await
    }

    async fn instances(&self, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
        let number = self.0.number;
        let look = |state: &State, now: Duration| {
            let there = state.servers.values().filter(|server| {
                server.instance.fleet == *fleet && !server.ended && server.is_seen(number, now)
            });
            there.map(|server| Instance { state: server.state(now), ..server.instance.clone() }).collect()
        };
        Ok(self.look(&format!("instances {fleet}"), look).await)
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), Error> {
        let mut broken = None;
        let act = |state: &mut State, now: Duration| {
            let Some(server) = state.servers.get(id) else { return Ok(()) };
            let served = state.fleets.get(&server.instance.fleet);
            let found = served.and_then(|served| {
                Some(target(served, id, served.targets.get(id)?, Some(server), now).state)
            });
            let fine =
                server.ended || server.is_dead(now) || matches!(found, None | Some(TargetState::Drained));
            if !fine {
                broken = Some(format!("{id} is terminated while it is {found:?}"));
            }
            if let Some(server) = state.servers.get_mut(id) {
                server.ended = true;
            }
            Ok(())
        };
        let done = self.effect(|| format!("terminate {id}"), act).await;
        self.insist(broken.map_or(Ok(()), Err));
        done
    }

    async fn ended(&self, running: &[InstanceId], patience: Duration) -> Result<(), Error> {
        let until = clock::elapsed() + patience;
        loop {
            self.0.alive().await;
            let changed = self.ground().changed.notified();
            let now = clock::elapsed();
            let end = {
                let state = self.ground().state();
                let end = |id: &InstanceId| match state.servers.get(id) {
                    Some(server) if server.ended => Some(now),
                    Some(server) => server.dies_at,
                    None => Some(now),
                };
                running.iter().filter_map(end).min()
            };
            let next = end.map_or(until, |end| end.min(until));
            if next <= now {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(next - now) => {}
            }
        }
    }
}

impl Reached {
    fn room(&self) -> Result<(), Error> {
        let now = clock::elapsed();
        let full = self.ground().no_room.iter().any(|(from, to)| (*from..*to).contains(&now));
        match full && !self.0.world.is_quiet() {
            true => Err(Error::NoCapacity("no machine of this kind is free".to_owned())),
            false => Ok(()),
        }
    }
}
