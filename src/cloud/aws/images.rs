//! Images: AMIs, and what their tags say.
//!
//! - `CreateImage` has no client token: the image is looked for by its key before it is asked for, and
//!   its name, which EC2 gives once, keeps two of them from being made.
//! - An image is ours by its tags, which it has from the moment it is asked for. One that is not
//!   available yet is never found.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Filter, Image, ImageState, ResourceType, TagSpecification};
use jiff::Timestamp;

use super::builders::{self, order::Wanted};
use super::{Aws, operations, tags};
use crate::cloud::{Base, BuildRequest, Error, ImageRecord, ImageRequest, Phase, hearing};
use crate::ids::{Digest, ImageId, PipelineName};

/// What is new is looked for so long: describing images may lag behind.
const LAG: Duration = Duration::from_secs(120);
/// An image that failed is asked for so often.
const TRIES: u32 = 2;

/// What has to be done to make one of a builder.
pub const PHASES: &[Phase] = &[Phase::Stop, Phase::Create, Phase::Await, Phase::Describe, Phase::End];

/// Does one of them; done again it changes nothing.
pub async fn carry_out(
    aws: &Aws,
    phase: Phase,
    request: &BuildRequest,
    image: &ImageRequest,
) -> Result<(), Error> {
    match phase {
        Phase::Stop => builders::stop(aws, request, image).await,
        Phase::Create => create(aws, request, image).await,
        Phase::Await => wait(aws, request, image).await,
        Phase::Describe => describe_again(aws, image).await,
        Phase::End => builders::end(aws, image).await,
    }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

fn by_tag(name: &str, value: &str) -> Filter {
    filter(&format!("tag:{name}"), value)
}

async fn search(aws: &Aws, owner: Option<&str>, filters: Vec<Filter>) -> Result<Vec<Image>, Error> {
    let (mut found, mut next) = (Vec::new(), None::<String>);
    loop {
        let page = aws.client.call(operations::DESCRIBE_IMAGES, |services| {
            let request = services.ec2.describe_images().set_filters(Some(filters.clone()));
            let request = request.set_owners(owner.map(|owner| vec![owner.to_owned()]));
            request.set_next_token(next.clone()).send()
        });
        let page = page.await?;
        found.extend(page.images().iter().cloned());
        match page.next_token() {
            Some(token) if !token.is_empty() => next = Some(token.to_owned()),
            _ => break,
        }
    }
    // The oldest first: of two with one key, everybody takes the same.
    found.sort_by(|one, other| (created(one), one.image_id()).cmp(&(created(other), other.image_id())));
    Ok(found)
}

const OURS: Option<&str> = Some("self");

/// All images with that key, whatever became of them.
async fn of_key(aws: &Aws, key: &Digest) -> Result<Vec<Image>, Error> {
    let mut images = search(aws, OURS, vec![by_tag(tags::IMAGE, key.as_str())]).await?;
    images.retain(|image| image.state() != Some(&ImageState::Deregistered));
    Ok(images)
}

/// The image with that key, if it is made or being made.
pub(super) async fn made(aws: &Aws, key: &Digest) -> Result<Option<Image>, Error> {
    Ok(best(of_key(aws, key).await?))
}

fn best(mut images: Vec<Image>) -> Option<Image> {
    let available = images.iter().position(is_available);
    let best = available.or_else(|| images.iter().position(is_pending))?;
    Some(images.swap_remove(best))
}

fn is_available(image: &Image) -> bool {
    image.state() == Some(&ImageState::Available)
}

fn is_pending(image: &Image) -> bool {
    matches!(image.state(), Some(ImageState::Pending | ImageState::Transient) | None)
}

fn created(image: &Image) -> Timestamp {
    let at = image.creation_date().and_then(|date| date.parse().ok());
    at.unwrap_or(Timestamp::UNIX_EPOCH)
}

pub async fn find(aws: &Aws, key: &Digest) -> Result<Option<ImageRecord>, Error> {
    let images = of_key(aws, key).await?;
    Ok(images.iter().filter(|image| is_available(image)).find_map(record))
}

pub async fn get(aws: &Aws, id: &ImageId) -> Result<ImageRecord, Error> {
    let image = by_id(aws, id).await?;
    record(&image).ok_or_else(|| Error::NotFound(format!("an image of Windlass with the id {id}")))
}

async fn by_id(aws: &Aws, id: &ImageId) -> Result<Image, Error> {
    // Named by a filter, one that does not exist is just not found.
    let images = search(aws, None, vec![filter("image-id", id.as_str())]).await?;
    images
        .into_iter()
        .next()
        .ok_or_else(|| Error::NotFound(format!("the image {id} in {}", aws.client.region())))
}

/// Marks the image and its snapshots.
pub async fn certify(aws: &Aws, id: &ImageId) -> Result<(), Error> {
    let image = by_id(aws, id).await?;
    put_tags(aws, &image, vec![(tags::CERTIFIED.to_owned(), "true".to_owned())]).await
}

/// Those of a service that are certified, the newest first.
pub async fn certified(aws: &Aws, service: &PipelineName) -> Result<Vec<ImageRecord>, Error> {
    let filters = vec![
        by_tag(tags::SERVICE, service.as_str()),
        by_tag(tags::CERTIFIED, "true"),
        filter("state", "available"),
    ];
    let images = search(aws, OURS, filters).await?;
    Ok(images.iter().rev().filter_map(record).collect())
}

/// The image that is meant by `base`.
pub async fn find_base(aws: &Aws, base: &Base) -> Result<ImageId, Error> {
    let region = aws.client.region();
    let (found, what) = match base {
        Base::Id(id) => {
            (search(aws, None, vec![filter("image-id", id)]).await?, format!("base.ami: {id} in {region}"))
        }
        Base::Newest { name, owner } => (
            search(aws, Some(owner), vec![filter("name", name), filter("state", "available")]).await?,
            format!("base: an available image of {owner} named {name} in {region}"),
        ),
    };
    let newest = found.iter().rev().find(|image| is_available(image));
    let Some(image) = newest else {
        let there = match found.first().and_then(|image| image.state()) {
            Some(state) => format!("{what} is {state}, and so"),
            None => what,
        };
        return Err(Error::NotFound(there));
    };
    if let (Base::Newest { .. }, Some(name)) = (base, image.name()) {
        hearing::say(&format!("the newest of {} is {name}", found.len()));
    }
    let id = image.image_id().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Error::Failed(format!("{what} has no id that can be used")))
}

fn record(image: &Image) -> Option<ImageRecord> {
    let tag = |name| tags::value(image.tags(), name).filter(|value| !value.is_empty());
    Some(ImageRecord {
        id: image.image_id()?.parse().ok()?,
        name: tag(tags::NAME).or(image.name())?.to_owned(),
        key: tag(tags::IMAGE)?.parse().ok()?,
        parent: tag(tags::PARENT).and_then(|parent| parent.parse().ok()),
        commit: tag(tags::COMMIT).and_then(|commit| commit.parse().ok()),
        run: tag(tags::RUN)?.parse().ok()?,
        service: tag(tags::SERVICE)?.parse().ok()?,
        start: tag(tags::START).unwrap_or_default().to_owned(),
        created_at: created(image),
        certified: tag(tags::CERTIFIED) == Some("true"),
    })
}

/// What the image and its snapshots say of themselves.
fn lineage(order: &builders::order::Order) -> Vec<(String, String)> {
    let Wanted { key, name, parent, commit, start } = &order.image;
    let mut about = tags::of(&order.tags);
    let base = match parent {
        Some(parent) => (tags::PARENT, parent.to_string()),
        None => (tags::BASE, order.ami.to_string()),
    };
    let more =
        [(tags::NAME, name.clone()), (tags::IMAGE, key.to_string()), base, (tags::START, start.clone())];
    let commit = commit.iter().map(|commit| (tags::COMMIT, commit.to_string()));
    about.extend(more.into_iter().chain(commit).map(|(name, value)| (name.to_owned(), value)));
    about
}

/// Asks for the image.
async fn create(aws: &Aws, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
    let images = of_key(aws, &image.key).await?;
    if let Some(there) = best(images.clone()) {
        hearing::say(&format!("{} was asked for already", there.image_id().unwrap_or_default()));
        return Ok(());
    }
    for failed in images {
        discard(aws, &failed).await?;
    }
    let order = builders::followed(aws, request, image).await?;
    let machine = builders::launched(aws, &order).await?;
    let name = free_name(aws, &order).await?;
    let specified = |what: ResourceType| {
        let about = tags::ec2(lineage(&order));
        TagSpecification::builder().resource_type(what).set_tags(Some(about)).build()
    };
    let ask = |tagged: &'static [ResourceType]| {
        let specified = &specified;
        let (machine, name, run) = (&machine.id, &name, &order.tags.run);
        aws.client.call(operations::CREATE_IMAGE, move |services| {
            let request = services.ec2.create_image().instance_id(machine.as_str()).name(name);
            let request = request.description(format!("{name}, made by Windlass in {run}"));
            let specifications = tagged.iter().cloned().map(specified).collect();
            request.set_tag_specifications(Some(specifications)).send()
        })
    };
    let mut asked = ask(&[ResourceType::Image, ResourceType::Snapshot]).await;
    // Not every server that speaks for EC2 can tag snapshots here: they are tagged when the image is
    // described. A name belongs to one image, so that asking twice makes no second one.
    if asked.as_ref().err().and_then(super::client::code_of) == Some("HTTP 500")
        && of_key(aws, &image.key).await?.is_empty()
    {
        asked = ask(&[ResourceType::Image]).await;
    }
    let error = match asked {
        Ok(answer) => {
            hearing::say(&format!("{name} will be {}", answer.image_id().unwrap_or_default()));
            return Ok(());
        }
        // The request may have been taken, or another one for the same name was.
        Err(error @ (Error::Ambiguous(_) | Error::Conflict(_))) => error,
        Err(error) => return Err(error),
    };
    hearing::say("looks whether the image was asked for all the same");
    match appears(aws, &image.key).await? {
        Some(_) => Ok(()),
        None => Err(error),
    }
}

/// The name of the image, or one beside it where that name is another image's.
async fn free_name(aws: &Aws, order: &builders::order::Order) -> Result<String, Error> {
    let Wanted { name, key, .. } = &order.image;
    let taken = search(aws, OURS, vec![filter("name", name)]).await?;
    let is_other = |image: &Image| tags::value(image.tags(), tags::IMAGE) != Some(key.as_str());
    if !taken.iter().any(is_other) {
        return Ok(name.clone());
    }
    let other = format!("{name}-{}", key.as_str().get(..8).unwrap_or_default());
    hearing::say(&format!("another image is named {name}: this one will be {other}"));
    Ok(other)
}

/// Waits until the image can be seen.
async fn appears(aws: &Aws, key: &Digest) -> Result<Option<Image>, Error> {
    let mut looks = builders::machine::Looks::new(aws.setup.account.poll);
    let give_up = Instant::now() + LAG.min(aws.setup.account.poll * 30);
    loop {
        let images = of_key(aws, key).await?;
        if !images.is_empty() || Instant::now() > give_up {
            return Ok(best(images.clone()).or_else(|| images.into_iter().next()));
        }
        looks.pause().await;
    }
}

/// Waits until the image is available. One that failed is made once more.
async fn wait(aws: &Aws, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
    let mut looks = builders::machine::Looks::new(aws.setup.account.poll);
    let mut tries = 1;
    loop {
        let Some(there) = appears(aws, &image.key).await? else {
            return Err(Error::NotFound(format!("the image {}, which was asked for,", image.name)));
        };
        if is_available(&there) {
            return Ok(());
        }
        if !is_pending(&there) {
            let id = there.image_id().unwrap_or_default();
            let reason = there.state_reason().and_then(|reason| reason.message());
            let reason = reason.unwrap_or("EC2 does not say why");
            discard(aws, &there).await?;
            if tries == TRIES {
                return Err(Error::Failed(format!("the image {id} came to nothing: {reason}")));
            }
            hearing::say(&format!("the image {id} came to nothing, and is made once more: {reason}"));
            tries += 1;
            create(aws, request, image).await?;
        }
        looks.pause().await;
    }
}

/// Removes an image that came to nothing, and its snapshots.
async fn discard(aws: &Aws, image: &Image) -> Result<(), Error> {
    let Some(id) = image.image_id() else { return Ok(()) };
    let gone = aws
        .client
        .call(operations::DEREGISTER_IMAGE, |services| services.ec2.deregister_image().image_id(id).send());
    match gone.await {
        Ok(_) | Err(Error::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    for snapshot in snapshots(image) {
        let gone = aws.client.call(operations::DELETE_SNAPSHOT, |services| {
            services.ec2.delete_snapshot().snapshot_id(snapshot).send()
        });
        match gone.await {
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn snapshots(image: &Image) -> impl Iterator<Item = &str> {
    let devices = image.block_device_mappings().iter();
    devices.filter_map(|device| device.ebs()?.snapshot_id()).filter(|id| !id.is_empty())
}

/// The image and its snapshots say again what they are: some of them may have come without tags.
async fn describe_again(aws: &Aws, image: &ImageRequest) -> Result<(), Error> {
    let there = of_key(aws, &image.key).await?.into_iter().find(is_available);
    let Some(there) = there else {
        return Err(Error::NotFound(format!("the image {}", image.name)));
    };
    let ours = |tag: &aws_sdk_ec2::types::Tag| {
        let name = tag.key().filter(|name| name.starts_with("windlass:") || *name == tags::NAME)?;
        Some((name.to_owned(), tag.value().unwrap_or_default().to_owned()))
    };
    put_tags(aws, &there, there.tags().iter().filter_map(ours).collect()).await
}

async fn put_tags(aws: &Aws, image: &Image, about: Vec<(String, String)>) -> Result<(), Error> {
    let resources: Vec<String> =
        image.image_id().into_iter().chain(snapshots(image)).map(str::to_owned).collect();
    let tagged = aws.client.call(operations::CREATE_TAGS, |services| {
        let request = services.ec2.create_tags().set_resources(Some(resources.clone()));
        request.set_tags(Some(tags::ec2(about.clone()))).send()
    });
    tagged.await.map(drop)
}
