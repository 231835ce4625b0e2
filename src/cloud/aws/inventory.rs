//! All that carries our tags in an account and region, and what lies in the bucket under our names; and
//! its end.
//!
//! Always true: an image is deregistered before its snapshots are deleted, and those carry our tags by
//! then, so that they are found when nobody comes to delete them; a thing is looked at once more right
//! before its end.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_ec2::types::{Filter, Image, Instance, Snapshot, Tag};
use jiff::Timestamp;

use super::Aws;
use super::client::{Client, Services};
use super::operations as op;
use super::tags;
use crate::cloud::Error;
use crate::cloud::inventory::{Inventory, Kind, Thing};
use crate::ids::FleetId;

mod bucket;

/// What an Auto Scaling group puts on its instances.
const GROUP: &str = "aws:autoscaling:groupName";

/// A deregistered image holds its snapshots for a moment; so often one is asked for again.
const TRIES: u32 = 5;

/// Instances that there is something to end of.
const LIVING: [&str; 4] = ["pending", "running", "stopping", "stopped"];

#[async_trait]
impl Inventory for Aws {
    async fn things(&self) -> Result<Vec<Thing>, Error> {
        let mut things = BTreeMap::new();
        // Two roles may see the same account.
        for client in self.every_client() {
            for thing in instances(&client).await? {
                things.insert(thing.id.clone(), thing);
            }
        }
        let mut things: Vec<Thing> = things.into_values().collect();
        things.extend(images(&self.client).await?);
        things.extend(snapshots(&self.client).await?);
        things.extend(self.open_uploads().await?);
        things.extend(self.scratch().await?);
        Ok(things)
    }

    async fn end(&self, thing: &Thing) -> Result<(), Error> {
        match thing.kind {
            Kind::Builder | Kind::Instance => self.end_instance(thing).await,
            Kind::Image => self.end_image(thing).await,
            Kind::Snapshot => self.delete_snapshot(&thing.id).await,
            Kind::Upload => self.abort(thing).await,
            Kind::Scratch => self.end_scratch(thing).await,
        }
    }
}

impl Aws {
    /// A client for each role that instances are launched in.
    fn every_client(&self) -> Vec<std::sync::Arc<Client>> {
        let account = &self.setup.account;
        let own = account.role.as_deref();
        let fleets = self.setup.fleets.values().map(|fleet| fleet.role.as_deref().or(own));
        let roles: std::collections::BTreeSet<_> = fleets.chain([own]).collect();
        roles.into_iter().map(|role| self.clients.get(account, role)).collect()
    }

    async fn end_instance(&self, thing: &Thing) -> Result<(), Error> {
        let fleet = thing.fleet.as_ref().and_then(|fleet| self.fleet(fleet).ok());
        let client = fleet.map_or_else(|| self.client.clone(), |(_, client)| client);
        let by_id = Filter::builder().name("instance-id").values(&thing.id).build();
        let Some(there) = described(&client, by_id).await?.into_iter().next() else { return Ok(()) };
        if (&there.run, &there.key, &there.release) != (&thing.run, &thing.key, &thing.release) {
            return Err(changed(thing));
        }
        let ended = client.call(op::TERMINATE_INSTANCES, |services: &Services| {
            services.ec2.terminate_instances().instance_ids(&thing.id).send()
        });
        gone_is_fine(ended.await.map(drop))
    }

    async fn end_image(&self, thing: &Thing) -> Result<(), Error> {
        let by_id = Filter::builder().name("image-id").values(&thing.id).build();
        let there = images_by(&self.client, by_id).await?.into_iter().next();
        if let Some(there) = &there {
            if (&there.run, there.certified) != (&thing.run, thing.certified) {
                return Err(changed(thing));
            }
            self.mark(there).await?;
            let ended = self.client.call(op::DEREGISTER_IMAGE, |services: &Services| {
                services.ec2.deregister_image().image_id(&thing.id).send()
            });
            gone_is_fine(ended.await.map(drop))?;
        }
        for snapshot in there.as_ref().map_or(&thing.parts, |there| &there.parts) {
            self.delete_snapshot(snapshot).await?;
        }
        Ok(())
    }

    /// Puts our tags on the snapshots of an image: once it is deregistered nothing else tells whose they
    /// are.
    async fn mark(&self, image: &Thing) -> Result<(), Error> {
        if image.parts.is_empty() {
            return Ok(());
        }
        let said = [
            (tags::SERVICE, image.service.as_ref().map(ToString::to_string)),
            (tags::RUN, image.run.as_ref().map(ToString::to_string)),
            (tags::STAGE, image.stage.as_ref().map(ToString::to_string)),
            (tags::KEY, image.key.as_ref().map(ToString::to_string)),
            (tags::IMAGE, image.image_key.as_ref().map(ToString::to_string)),
        ];
        let tag =
            |(name, value): (&str, Option<String>)| Some(Tag::builder().key(name).value(value?).build());
        let tags: Vec<Tag> = said.into_iter().filter_map(tag).collect();
        let marked = self.client.call(op::CREATE_TAGS, |services: &Services| {
            let request = services.ec2.create_tags().set_resources(Some(image.parts.clone()));
            request.set_tags(Some(tags.clone())).send()
        });
        gone_is_fine(marked.await.map(drop))
    }

    async fn delete_snapshot(&self, id: &str) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            let deleted = self.client.call(op::DELETE_SNAPSHOT, |services: &Services| {
                services.ec2.delete_snapshot().snapshot_id(id).send()
            });
            match gone_is_fine(deleted.await.map(drop)) {
                Err(Error::Conflict(_)) if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(self.setup.account.poll).await;
                }
                done => return done,
            }
        }
    }
}

fn changed(thing: &Thing) -> Error {
    Error::Conflict(format!("{} is not what it was any more", thing.id))
}

fn gone_is_fine(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::NotFound(_)) => Ok(()),
        done => done,
    }
}

/// What carries our tags.
fn ours() -> Filter {
    Filter::builder().name("tag-key").values(tags::SERVICE).build()
}

async fn instances(client: &Client) -> Result<Vec<Thing>, Error> {
    described(client, ours()).await
}

async fn described(client: &Client, which: Filter) -> Result<Vec<Thing>, Error> {
    let states = LIVING.map(str::to_owned).to_vec();
    let living = Filter::builder().name("instance-state-name").set_values(Some(states)).build();
    let (mut things, mut next) = (Vec::new(), None);
    loop {
        let answer = client.call(op::DESCRIBE_INSTANCES, |services: &Services| {
            let request = services.ec2.describe_instances().filters(which.clone()).filters(living.clone());
            request.set_next_token(next.clone()).send()
        });
        let answer = answer.await?;
        let found = answer.reservations().iter().flat_map(|reservation| reservation.instances());
        things.extend(found.filter_map(instance));
        next = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(things);
        }
    }
}

fn instance(instance: &Instance) -> Option<Thing> {
    let launched = instance.launch_time().and_then(time)?;
    let has = |name| instance.tags().iter().any(|tag| tag.key() == Some(name));
    let kind = if has(tags::FLEET) { Kind::Instance } else { Kind::Builder };
    let thing = marked(Thing::new(kind, instance.instance_id()?, launched), instance.tags());
    let group = instance.tags().iter().find(|tag| tag.key() == Some(GROUP)).and_then(Tag::value);
    Some(Thing {
        image: instance.image_id().and_then(|id| id.parse().ok()),
        keeper: group.map(|group| format!("the Auto Scaling group {group}")),
        ..thing
    })
}

async fn images(client: &Client) -> Result<Vec<Thing>, Error> {
    images_by(client, ours()).await
}

async fn images_by(client: &Client, which: Filter) -> Result<Vec<Thing>, Error> {
    let (mut things, mut next) = (Vec::new(), None);
    loop {
        let answer = client.call(op::DESCRIBE_IMAGES, |services: &Services| {
            let request = services.ec2.describe_images().owners("self").filters(which.clone());
            request.set_next_token(next.clone()).send()
        });
        let answer = answer.await?;
        things.extend(answer.images().iter().filter_map(image));
        next = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(things);
        }
    }
}

fn image(image: &Image) -> Option<Thing> {
    let created = image.creation_date()?.parse().ok()?;
    let thing = marked(Thing::new(Kind::Image, image.image_id()?, created), image.tags());
    let disks = image.block_device_mappings().iter().filter_map(|mapping| mapping.ebs());
    let snapshots = disks.filter_map(|disk| disk.snapshot_id()).filter(|id| !id.is_empty());
    Some(Thing {
        name: image.name().map(str::to_owned).or(thing.name),
        parts: snapshots.map(str::to_owned).collect(),
        ..thing
    })
}

async fn snapshots(client: &Client) -> Result<Vec<Thing>, Error> {
    let (mut things, mut next) = (Vec::new(), None);
    loop {
        let answer = client.call(op::DESCRIBE_SNAPSHOTS, |services: &Services| {
            let request = services.ec2.describe_snapshots().owner_ids("self").filters(ours());
            request.set_next_token(next.clone()).send()
        });
        let answer = answer.await?;
        things.extend(answer.snapshots().iter().filter_map(snapshot));
        next = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if next.is_none() {
            return Ok(things);
        }
    }
}

fn snapshot(snapshot: &Snapshot) -> Option<Thing> {
    let started = snapshot.start_time().and_then(time)?;
    let thing = marked(Thing::new(Kind::Snapshot, snapshot.snapshot_id()?, started), snapshot.tags());
    // What it holds at most is all that is told: the size of its disk, in GiB.
    let bytes = snapshot.volume_size().and_then(|size| u64::try_from(size).ok());
    Some(Thing { bytes: bytes.map(|size| size << 30), ..thing })
}

/// The thing with what its tags say.
fn marked(thing: Thing, said: &[Tag]) -> Thing {
    let value = |name| said.iter().find(|tag| tag.key() == Some(name)).and_then(Tag::value);
    let service = value(tags::SERVICE).and_then(|text| text.parse().ok());
    let fleet = value(tags::FLEET).zip(service.as_ref()).and_then(|(fleet, service)| {
        let environment = fleet.strip_prefix(&format!("{service}-"))?.parse().ok()?;
        Some(FleetId::new(Clone::clone(service), environment))
    });
    Thing {
        name: value(tags::NAME).map(str::to_owned),
        run: value(tags::RUN).and_then(|text| text.parse().ok()),
        stage: value(tags::STAGE).and_then(|text| text.parse().ok()),
        key: value(tags::KEY).and_then(|text| text.parse().ok()),
        release: value(tags::RELEASE).and_then(|text| text.parse().ok()),
        image_key: value(tags::IMAGE).and_then(|text| text.parse().ok()),
        certified: value(tags::CERTIFIED) == Some("true"),
        parent: value(tags::PARENT).and_then(|text| text.parse().ok()),
        service,
        fleet,
        ..thing
    }
}

fn time(at: &aws_sdk_ec2::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).unwrap_or_default()).ok()
}
