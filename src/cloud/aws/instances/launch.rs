//! A launch: found by its key, or asked for where there is room, once.

use std::time::Duration;

use aws_sdk_ec2::types::{
    IamInstanceProfileSpecification, InstanceType, ResourceType, Tag, TagSpecification,
};

use super::instance;
use crate::cloud::aws::choice::{self, Pair};
use crate::cloud::aws::client::{Client, code_of};
use crate::cloud::aws::launch_data::{self, For};
use crate::cloud::aws::roster::{Doubt, Seen};
use crate::cloud::aws::{Aws, operations, tags};
use crate::cloud::setup::LaunchSpec;
use crate::cloud::{Error, Instance, InstanceState, Launch, hearing};

/// So often an image is asked for that may not be known everywhere yet: "an AMI may be available and
/// not found", as with everything that is new.
const IMAGE_TRIES: u32 = 5;

/// So often what has a token of ours is looked for before it is given up.
const LOOKS: u32 = 5;

/// So many tokens for a place: one that AWS holds against us with other parameters, and whose instance
/// nobody sees, is left behind.
const GENERATIONS: u32 = 4;

/// The longest that is waited for what an earlier process may have launched.
const SETTLED: Duration = Duration::from_secs(10);

/// Launches an instance, or finds the one that the key has launched before.
pub(in crate::cloud::aws) async fn launch(
    aws: &Aws,
    spec: &LaunchSpec,
    launch: &Launch,
) -> Result<Instance, Error> {
    let (fleet, client) = aws.fleet(&launch.fleet)?;
    let poll = aws.setup.account.poll;
    let one = Launching {
        client: &client,
        spec,
        launch,
        port: fleet.port,
        poll,
        user_data: launch_data::user_data(launch, fleet.port, For::One)?,
    };
    let roster = &client.roster;
    let mut doubt = roster.launching(&launch.key).await;
    match doubt.is_some() {
        true => roster.look(&client).await?,
        false => roster.look_after(&client, Duration::MAX).await?,
    }
    if let Some(found) = one.found()? {
        *doubt = None;
        return Ok(found);
    }
    if roster.settled(poll.min(SETTLED)).await {
        roster.look(&client).await?;
        if let Some(found) = one.found()? {
            return Ok(found);
        }
    }
    let mut pairs = choice::order(spec, &one.members());
    if let Some(Doubt { pair, .. }) = doubt.as_ref() {
        pairs.retain(|other| other != pair);
        pairs.insert(0, pair.clone());
    }
    let mut refused: Vec<String> = Vec::new();
    let mut full: Vec<String> = Vec::new();
    for pair in pairs.into_iter() {
        if full.contains(&pair.subnet) {
            continue;
        }
        match one.at(&pair, &mut doubt).await {
            Ok(instance) => return Ok(instance),
            Err(Error::NoCapacity(told)) => {
                let error = Error::NoCapacity(told);
                let code = code_of(&error).unwrap_or("refused");
                if code == "InsufficientFreeAddressesInSubnet" {
                    full.push(pair.subnet.clone());
                }
                hearing::say(&format!("no room for {} as {pair}: {code}", launch.name));
                refused.push(format!("{pair}: {code}"));
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::NoCapacity(format!("{} is launched nowhere ({})", launch.name, refused.join("; "))))
}

struct Launching<'a> {
    client: &'a Client,
    spec: &'a LaunchSpec,
    launch: &'a Launch,
    port: u16,
    poll: Duration,
    user_data: String,
}

impl Launching<'_> {
    /// What the key has launched, as far as is known.
    ///
    /// # Errors
    /// [`Error::Conflict`]: it has launched something else.
    fn found(&self) -> Result<Option<Instance>, Error> {
        let Some(entry) = self.client.roster.by_key(&self.launch.key) else { return Ok(None) };
        let state = super::state(&entry.seen).filter(|_| entry.dismissed.is_none());
        let found = instance(&entry.seen, state.unwrap_or(InstanceState::Terminated), self.port);
        let launch = self.launch;
        let same = |found: &Instance| {
            (&found.fleet, &found.image, &found.release) == (&launch.fleet, &launch.image, &launch.release)
        };
        match found {
            Some(found) if same(&found) => Ok(Some(found)),
            _ => Err(Error::Conflict(format!(
                "{} was launched for the key {}, and it is not what the key asks for now",
                entry.seen.id, launch.key
            ))),
        }
    }

    /// Where the fleet's members are, and whether they run the same release.
    fn members(&self) -> Vec<(String, bool)> {
        let release = Some(self.launch.release.as_str());
        let entries = self.client.roster.of(&self.launch.fleet);
        let live = entries.iter().filter(|entry| entry.dismissed.is_none() && entry.seen.is_live());
        live.filter_map(|entry| {
            let same = entry.seen.tag(tags::RELEASE) == release;
            Some((entry.seen.subnet.clone()?, same))
        })
        .collect()
    }

    /// Asks for it in one place. What is in doubt is written down before it is asked for, and stays so
    /// until there is a clear answer.
    async fn at(&self, pair: &Pair, doubt: &mut Option<Doubt>) -> Result<Instance, Error> {
        let from = doubt.as_ref().filter(|doubt| doubt.pair == *pair).map_or(0, |doubt| doubt.generation);
        let mut image_tries = 0;
        let mut generation = from;
        loop {
            *doubt = Some(Doubt { pair: pair.clone(), generation });
            let error = match self.run(pair, generation).await {
                Ok(seen) => {
                    *doubt = None;
                    return self.seen(seen);
                }
                Err(error) => error,
            };
            match (&error, code_of(&error)) {
                (Error::Ambiguous(_), _) => {
                    self.client.roster.look(self.client).await?;
                    let Some(found) = self.found()? else { return Err(error) };
                    *doubt = None;
                    return Ok(found);
                }
                (Error::Throttled { .. }, _) => return Err(error),
                // The token has launched something, but with other parameters.
                (_, Some("IdempotentParameterMismatch")) => {
                    if let Some(found) = self.look_for_it().await? {
                        *doubt = None;
                        return Ok(found);
                    }
                    generation += 1;
                    if generation >= GENERATIONS {
                        *doubt = None;
                        return Err(error);
                    }
                }
                (_, Some("InvalidAMIID.NotFound" | "InvalidAMIID.Unavailable"))
                    if image_tries + 1 < IMAGE_TRIES =>
                {
                    image_tries += 1;
                    tokio::time::sleep(self.poll).await;
                }
                _ => {
                    *doubt = None;
                    return Err(error);
                }
            }
        }
    }

    /// Looks for what has a token of ours until AWS has had time to show it.
    async fn look_for_it(&self) -> Result<Option<Instance>, Error> {
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(self.poll.min(SETTLED)).await;
            }
            self.client.roster.look(self.client).await?;
            if let Some(found) = self.found()? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Takes note of what AWS says it launched.
    fn seen(&self, seen: Option<Seen>) -> Result<Instance, Error> {
        let seen = seen.ok_or_else(|| {
            Error::Ambiguous(format!("AWS launched {} and does not say what", self.launch.name))
        })?;
        self.client.roster.launched(seen);
        self.found()?
            .ok_or_else(|| Error::Ambiguous(format!("AWS launched {} without its tags", self.launch.name)))
    }

    async fn run(&self, pair: &Pair, generation: u32) -> Result<Option<Seen>, Error> {
        let Self { launch, spec, .. } = self;
        let token = pair.token(&launch.key, generation);
        let answer = self
            .client
            .call(operations::RUN_INSTANCES, |services| {
                let mut ask = services
                    .ec2
                    .run_instances()
                    .client_token(&token)
                    .image_id(launch.image.as_str())
                    .instance_type(InstanceType::from(pair.instance_type.as_str()))
                    .subnet_id(&pair.subnet)
                    .user_data(&self.user_data)
                    .min_count(1)
                    .max_count(1)
                    .set_key_name(spec.key_pair.clone());
                for group in &spec.security_groups {
                    ask = ask.security_group_ids(group);
                }
                if let Some(profile) = &spec.profile {
                    let profile = IamInstanceProfileSpecification::builder().name(profile).build();
                    ask = ask.iam_instance_profile(profile);
                }
                for kind in [ResourceType::Instance, ResourceType::Volume] {
                    let tagged = TagSpecification::builder().resource_type(kind);
                    ask = ask.tag_specifications(tagged.set_tags(Some(tags_of(launch))).build());
                }
                ask.send()
            })
            .await?;
        let mut seen = answer.instances().first().and_then(Seen::new);
        if let Some(seen) = &mut seen {
            // They were given with the launch, whether the answer repeats them or not.
            seen.tags.extend(tag_pairs(launch));
        }
        Ok(seen)
    }
}

/// What an instance and its volumes carry from the moment they are there.
fn tag_pairs(launch: &Launch) -> Vec<(String, String)> {
    let mut all = tags::of(&launch.tags);
    let own = [
        (tags::KEY, launch.key.to_string()),
        (tags::ENVIRONMENT, launch.fleet.environment.to_string()),
        (tags::FLEET, launch.fleet.to_string()),
        (tags::RELEASE, launch.release.to_string()),
        (tags::NAME, launch.name.clone()),
    ];
    all.retain(|(name, _)| name != tags::KEY);
    all.extend(own.map(|(name, value)| (name.to_owned(), value)));
    all
}

fn tags_of(launch: &Launch) -> Vec<Tag> {
    tag_pairs(launch).into_iter().map(|(name, value)| Tag::builder().key(name).value(value).build()).collect()
}
