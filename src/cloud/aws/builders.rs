//! Machines that images are made on.
//!
//! - A builder is found by the image's key, not by who asked: whoever wants the same image follows the
//!   same machine, also after the one who asked first is gone. What was asked for stands in the bucket
//!   ([`order`]) before the machine is asked for.
//! - One that failed, hangs or has ended is over: the next one is another generation, with another token.
//! - Each of the calls here may be cut off anywhere and made again.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::pack::Load;
use super::script::{self, Bootstrap, Files};
use super::{Aws, images};
use crate::cloud::{
    BuildRequest, Builder, Error, ImageRequest, Objects, Parent, Provisioning, hearing, setup,
};
use crate::ids::{Digest, ImageId};

mod follow;
pub(super) mod machine;
pub(super) mod order;
mod ssm;

pub use follow::provisioned;
use machine::{Looks, Machine, State};
use order::{BOOTSTRAP, LOG, ORDER, OVER, Order, Over, SCHEMA, VERDICT, Verdict, Wanted, place};

/// Addresses hold so much longer than a builder may take: it is not launched the moment they are made.
const SLACK: Duration = Duration::from_secs(10 * 60);
/// A machine ends itself so long after its timeout. Until then its image may be made.
const ALONE: Duration = Duration::from_secs(30 * 60);
/// Between two attempts where there is no capacity.
const NO_CAPACITY: Duration = Duration::from_secs(15);
/// A machine that was asked for is looked for so long: describing it may lag behind.
const LAG: Duration = Duration::from_secs(120);
/// A machine stops within this time, or something is wrong with it.
const STOP: Duration = Duration::from_secs(15 * 60);
/// So many builders in a row that are over before anything could be seen of them.
const TRIES: u32 = 5;

/// Launches the builder, or finds the one that is there for the same image.
pub async fn launch(aws: &Aws, request: &BuildRequest, image: &ImageRequest) -> Result<Builder, Error> {
    let builder = Builder { key: request.key.clone(), provisioning: Provisioning::There };
    let ami = beginning(&request.parent)?;
    let settings = aws.setup.builder.as_ref().ok_or_else(|| {
        Error::Denied(
            "the settings do not say on what machine images are made: clouds.aws.builder: { type: t3.small, \
             subnet: subnet-1 }"
                .to_owned(),
        )
    })?;
    let asked = request.clone();
    let load = tokio::task::spawn_blocking(move || Load::pack(&asked)).await;
    let load = load.map_err(|error| Error::Failed(format!("packing broke off: {error}")))??;
    if images::made(aws, &image.key).await?.is_some() {
        hearing::say("the image is made already, or being made");
        return Ok(builder);
    }
    let give_up = Instant::now() + settings.timeout;
    let mut tries = 0;
    while tries < TRIES {
        let papers = aws.papers(&image.key).await?;
        let newest = papers.newest();
        let generation = if newest == 0 || papers.has(newest, OVER) { newest + 1 } else { newest };
        let known = match papers.has(generation, ORDER) {
            true => aws.paper::<Order>(&place(&image.key, generation, ORDER)).await?,
            false => None,
        };
        let order = match known {
            Some(order) => order,
            None => give_order(aws, settings, &ami, request, image, &load, generation).await?,
        };
        let follower = order::follower(&request.key);
        if !papers.has(generation, &follower) {
            let follower = place(&image.key, generation, &follower);
            aws.write_paper(&follower, &order::Follower::default()).await?;
        }
        // Somebody may have given it up before anybody knew that we follow.
        if aws.paper::<Over>(&place(&image.key, generation, OVER)).await?.is_some() {
            continue;
        }
        let reason = match look(aws, &order).await? {
            Look::Good(machine) => {
                match order.tags.key == request.tags.key {
                    true => hearing::say(&format!("goes on with the builder {}", machine.id)),
                    false => hearing::say(&format!(
                        "joins the builder {}, where {} makes the same image",
                        machine.id, order.tags.run
                    )),
                }
                return Ok(builder);
            }
            Look::Over(reason) => reason,
            Look::Nothing => match aws.run_machine(&order).await {
                Ok(machine) if machine.is_gone() => "it ended right away".to_owned(),
                Ok(machine) => {
                    hearing::say(&format!(
                        "the builder is {}, a {} of {}; {} minutes at most",
                        machine.id,
                        order.instance_type,
                        order.ami,
                        order.timeout.as_secs().div_ceil(60)
                    ));
                    return Ok(builder);
                }
                Err(Error::NoCapacity(said)) if Instant::now() < give_up => {
                    let pause = NO_CAPACITY.min(aws.setup.account.poll);
                    hearing::say(&format!(
                        "no capacity for a {} in {}: tries again in {} s ({said})",
                        order.instance_type,
                        order.subnet,
                        pause.as_secs()
                    ));
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Err(error @ (Error::Ambiguous(_) | Error::Throttled { .. })) => return Err(error),
                // The token belongs to another request: there will be another.
                Err(Error::Conflict(said)) => said,
                Err(error) => {
                    over(aws, &order, &error.to_string()).await?;
                    return Err(error);
                }
            },
        };
        hearing::say(&format!("builder {generation} is over: {reason}"));
        over(aws, &order, &reason).await?;
        tries += 1;
    }
    Err(Error::Failed(format!(
        "{TRIES} builders in a row ended before they did anything; the last lines above say why"
    )))
}

/// What a builder starts from.
fn beginning(parent: &Parent) -> Result<ImageId, Error> {
    match parent {
        Parent::Image(id) | Parent::Machine(id) => Ok(id.clone()),
        Parent::Directory(_) => Err(Error::Denied(
            "base.directory is for the local cloud, and on AWS an image starts from a machine image: base: { \
             ami: ami-0abc } or base: { name: \"debian-12-*\", owner: \"136693071363\" }"
                .to_owned(),
        )),
        Parent::Empty => Err(Error::Denied(
            "there is no image yet to start from, and the bake has no base: base: { ami: ami-0abc } or base: { \
             name: \"debian-12-*\", owner: \"136693071363\" }"
                .to_owned(),
        )),
    }
}

/// What there is of a builder that was ordered.
enum Look {
    Good(Machine),
    /// It will not come to anything.
    Over(String),
    Nothing,
}

async fn look(aws: &Aws, order: &Order) -> Result<Look, Error> {
    let verdict: Option<Verdict> = aws.paper(&place(&order.image.key, order.generation, VERDICT)).await?;
    if verdict.as_ref().is_some_and(|verdict| !verdict.is_good()) {
        return Ok(Look::Over("its provisioning failed".to_owned()));
    }
    let now = Timestamp::now();
    let Some(machine) = aws.machine(&order.image.key, order.generation).await? else {
        return Ok(match order.until < now + order.timeout {
            true => Look::Over("it was not launched while its addresses held".to_owned()),
            false => Look::Nothing,
        });
    };
    let why = |what: &str| match &machine.reason {
        Some(reason) => format!("{} {what}: {reason}", machine.id),
        None => format!("{} {what}", machine.id),
    };
    match machine.state {
        State::Gone => return Ok(Look::Over(why("has ended"))),
        _ if verdict.is_some() => return Ok(Look::Good(machine)),
        State::Stopping | State::Stopped => {
            aws.end_machines(std::slice::from_ref(&machine)).await?;
            return Ok(Look::Over(why("was stopped before it was done")));
        }
        State::Pending | State::Running => {}
    }
    if machine.launched_at + order.timeout < now {
        aws.end_machines(std::slice::from_ref(&machine)).await?;
        return Ok(Look::Over(format!("{} was not done in time", machine.id)));
    }
    Ok(Look::Good(machine))
}

/// Writes down what is asked for, with everything that the machine will fetch in its place.
async fn give_order(
    aws: &Aws,
    settings: &setup::Builder,
    ami: &ImageId,
    request: &BuildRequest,
    image: &ImageRequest,
    load: &Load,
    generation: u32,
) -> Result<Order, Error> {
    let lasts = settings.timeout + SLACK;
    aws.session_lasts(lasts).await?;
    let mut archives = Vec::new();
    for packed in load.contents.iter().chain(&load.files) {
        let key = format!("bakes/contents/{}.tar", packed.digest);
        aws.put(&key, packed.file.path(), &packed.digest).await?;
        archives.push(aws.presigned_get(&key, lasts).await?);
    }
    let here = |name: &str| place(&image.key, generation, name);
    let (log, verdict) =
        (aws.presigned_put(&here(LOG), lasts).await?, aws.presigned_put(&here(VERDICT), lasts).await?);
    let contents = archives.get(..load.contents.len()).unwrap_or_default();
    let files = Files {
        archive: archives.get(load.contents.len()).cloned(),
        files: load.only_files.clone(),
        directories: load.only_directories.clone(),
    };
    let dead_after = settings.timeout + ALONE;
    let bootstrap = Bootstrap {
        service: &request.tags.service,
        build: &format!("{}-{generation}", image.key.short()),
        contents,
        files: &files,
        provision: &request.provision,
        env: &request.env,
        start: &image.start,
        log: &log,
        verdict: &verdict,
        beat: Some(script::BEAT.min(aws.setup.account.poll)),
        dead_after,
    };
    aws.write(&here(BOOTSTRAP), bootstrap.text().into_bytes(), false).await?;
    let url = aws.presigned_get(&here(BOOTSTRAP), lasts).await?;
    let at = Timestamp::now();
    let token = Digest::of(
        format!("{} {generation} {} {} {ami}", image.key, settings.instance_type, settings.subnet).as_bytes(),
    );
    let order = Order {
        schema: SCHEMA,
        generation,
        token: token.to_string(),
        at,
        until: at + lasts,
        timeout: settings.timeout,
        ami: ami.clone(),
        instance_type: settings.instance_type.clone(),
        subnet: settings.subnet.clone(),
        security_groups: settings.security_groups.clone(),
        profile: settings.profile.clone(),
        spot: settings.spot,
        user_data: script::user_data((!settings.ssm).then_some(url.as_str()), dead_after)?,
        command: settings.ssm.then(|| script::fetch(&url)),
        tags: request.tags.clone(),
        image: Wanted {
            key: image.key.clone(),
            name: image.name.clone(),
            parent: image.parent.clone(),
            commit: image.commit.clone(),
            start: image.start.clone(),
        },
    };
    if aws.write_new_paper(&here(ORDER), &order).await? {
        return Ok(order);
    }
    let theirs = aws.paper(&here(ORDER)).await?;
    theirs.ok_or_else(|| Error::Ambiguous(format!("{} is there and is not", aws.location(&here(ORDER)))))
}

async fn over(aws: &Aws, order: &Order, reason: &str) -> Result<(), Error> {
    let over = Over { reason: reason.to_owned() };
    aws.write_paper(&place(&order.image.key, order.generation, OVER), &over).await
}

/// What was asked for of the builder that this attempt follows.
pub(super) async fn followed(
    aws: &Aws,
    request: &BuildRequest,
    image: &ImageRequest,
) -> Result<Order, Error> {
    let papers = aws.papers(&image.key).await?;
    let gone = || Error::NotFound(format!("the builder of {}", image.name));
    let generation = papers.followed_by(&request.key).ok_or_else(gone)?;
    aws.paper(&place(&image.key, generation, ORDER)).await?.ok_or_else(gone)
}

/// The machine of a builder that was launched.
pub(super) async fn launched(aws: &Aws, order: &Order) -> Result<Machine, Error> {
    let mut looks = Looks::new(aws.setup.account.poll);
    let give_up = Instant::now() + LAG;
    loop {
        match aws.machine(&order.image.key, order.generation).await? {
            Some(machine) if machine.is_gone() => {
                let reason = machine.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                return Err(Error::NotFound(format!("the builder {}, which has ended{reason},", machine.id)));
            }
            Some(machine) => return Ok(machine),
            None if Instant::now() > give_up => {
                return Err(Error::NotFound(format!("the builder of {}", order.image.name)));
            }
            None => looks.pause().await,
        }
    }
}

/// Stops the builder, so that nothing changes any more.
pub async fn stop(aws: &Aws, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
    if images::made(aws, &image.key).await?.is_some() {
        return Ok(());
    }
    let order = followed(aws, request, image).await?;
    let mut looks = Looks::new(aws.setup.account.poll);
    let give_up = Instant::now() + STOP;
    let mut asked = false;
    loop {
        let machine = launched(aws, &order).await?;
        match machine.state {
            State::Stopped => return Ok(()),
            _ if machine.spot => {
                hearing::say("a spot instance is not stopped: its image is made while it starts anew");
                return Ok(());
            }
            State::Running if !asked => {
                aws.stop_machine(&machine).await?;
                asked = true;
            }
            _ if Instant::now() > give_up => {
                return Err(Error::TooLate(format!("the builder {} does not stop", machine.id)));
            }
            _ => {}
        }
        looks.pause().await;
    }
}

/// Ends all builders of an image that is made.
pub async fn end(aws: &Aws, image: &ImageRequest) -> Result<(), Error> {
    let machines = aws.machines(&image.key).await?;
    aws.end_machines(&machines).await
}

/// Ends the builder of a build that came to nothing. While it may still come to something for somebody
/// else who follows it, it is left to them: whoever follows a builder says so in the bucket before they
/// look whether it is over, and whoever gives it up says that before they look who else follows.
pub async fn abandon(aws: &Aws, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
    let papers = aws.papers(&image.key).await?;
    let Some(generation) = papers.followed_by(&request.key) else { return Ok(()) };
    let here = |name: &str| place(&image.key, generation, name);
    let given_up = Over { reason: format!("{} gave it up", request.tags.run) };
    aws.write_paper(&here(&order::left(&request.key)), &given_up).await?;
    let was_over = papers.has(generation, OVER);
    if !was_over {
        aws.write_paper(&here(OVER), &given_up).await?;
    }
    let machine = aws.machine(&image.key, generation).await?;
    let followed = aws.papers(&image.key).await?.is_followed(generation);
    if followed && !was_over && may_succeed(aws, machine.as_ref(), image, generation).await? {
        aws.remove(&here(OVER)).await?;
        hearing::say("another run follows the same builder: it is left to that");
        return Ok(());
    }
    match machine {
        Some(machine) if !machine.is_gone() => aws.end_machines(&[machine]).await,
        _ => Ok(()),
    }
}

async fn may_succeed(
    aws: &Aws,
    machine: Option<&Machine>,
    image: &ImageRequest,
    generation: u32,
) -> Result<bool, Error> {
    let verdict: Option<Verdict> = aws.paper(&place(&image.key, generation, VERDICT)).await?;
    if let Some(verdict) = verdict {
        return Ok(verdict.is_good());
    }
    let order: Option<Order> = aws.paper(&place(&image.key, generation, ORDER)).await?;
    let (Some(machine), Some(order)) = (machine, order) else { return Ok(true) };
    Ok(!machine.is_gone() && machine.launched_at + order.timeout > Timestamp::now())
}
