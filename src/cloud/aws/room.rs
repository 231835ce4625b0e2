//! Whether there is room for more instances, asked before a fleet is doubled: the account's quota of
//! vCPUs, and free addresses in the subnets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Filter, Instance, InstanceLifecycleType, InstanceType};

use super::client::Client;
use super::operations;
use crate::cloud::setup::LaunchSpec;
use crate::cloud::{Error, hearing};

/// "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", in vCPUs (Service Quotas, EC2).
const QUOTA: &str = "L-1216C47A";
const STANDARD: &str = "acdhimrtz";

/// A terminated instance counts for a while: the quota is not told at once.
const COUNTED: Duration = Duration::from_secs(5 * 60);

/// What was asked is good for so long; a quota changes by a person's request.
const CACHED: Duration = Duration::from_secs(5 * 60);

/// States in which an instance counts: "shutting-down" is on its way out and still there.
const COUNTING: [&str; 3] = ["pending", "running", "shutting-down"];

/// What was asked before.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// vCPUs of a type.
    types: Mutex<BTreeMap<String, u64>>,
    /// `None`: it cannot be checked.
    quota: Mutex<Option<(Instant, Option<u64>)>>,
}

/// Whether there is room for so many more instances.
///
/// # Errors
/// [`Error::NoCapacity`] says what is missing.
pub(super) async fn room_for(client: &Client, spec: &LaunchSpec, more: u32) -> Result<(), Error> {
    match checked(client, spec, more).await {
        // Who may launch need not be allowed to ask.
        Err(Error::Denied(why)) => {
            hearing::say(&format!("whether there is room for {more} more could not be checked: {why}"));
            Ok(())
        }
        other => other,
    }
}

async fn checked(client: &Client, spec: &LaunchSpec, more: u32) -> Result<(), Error> {
    addresses(client, spec, more).await?;
    let Some(first) = spec.types.first() else { return Ok(()) };
    if !is_standard(first) {
        hearing::say(&format!("whether the quota of vCPUs has room for {more} {first} is not checked"));
        return Ok(());
    }
    let Some(quota) = quota(client).await? else { return Ok(()) };
    let each = vcpus(client, std::slice::from_ref(first)).await?.get(first).copied();
    let Some(each) = each else {
        hearing::say(&format!("AWS does not say how many vCPUs a {first} has: the quota is not checked"));
        return Ok(());
    };
    let (shown, used) = in_use(client).await?;
    // What was ended a moment ago is still counted, and what was launched a moment ago may not be shown.
    let ours = client.roster.dismissed_within(COUNTED) + client.roster.launched_besides(&shown);
    let used = used + ours as u64 * each;
    let needed = each * u64::from(more);
    if used + needed > quota {
        return Err(Error::NoCapacity(format!(
            "{more} more {first} take {needed} vCPUs, and of the quota {QUOTA} of {quota} in {} about {used} \
             are in use: ask for more under Service Quotas, or deploy in smaller batches",
            client.region()
        )));
    }
    hearing::say(&format!("{more} more {first} take {needed} vCPUs: about {used} of {quota} are in use"));
    Ok(())
}

fn is_standard(instance_type: &str) -> bool {
    // `inf1` and `trn1` are other quotas; `u-` and `x1` too.
    let family: String = instance_type.chars().take_while(char::is_ascii_lowercase).collect();
    let special = ["inf", "trn", "dl", "hpc", "mac"].contains(&family.as_str());
    !special && instance_type.starts_with(|c: char| STANDARD.contains(c))
}

async fn addresses(client: &Client, spec: &LaunchSpec, more: u32) -> Result<(), Error> {
    let answer = client
        .call(operations::DESCRIBE_SUBNETS, |services| {
            services.ec2.describe_subnets().set_subnet_ids(Some(spec.subnets.clone())).send()
        })
        .await?;
    let free = answer.subnets().iter().filter_map(|subnet| subnet.available_ip_address_count());
    let free: u64 = free.filter_map(|free| u64::try_from(free).ok()).sum();
    if free < u64::from(more) {
        let subnets = spec.subnets.join(", ");
        return Err(Error::NoCapacity(format!(
            "{more} more instances need an address each, and {subnets} have {free} free"
        )));
    }
    Ok(())
}

/// The quota, if it can be told.
async fn quota(client: &Client) -> Result<Option<u64>, Error> {
    let known = *client.room.quota.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, quota)) = known.filter(|(asked, _)| asked.elapsed() < CACHED) {
        return Ok(quota);
    }
    let answer = client
        .call(operations::GET_SERVICE_QUOTA, |services| {
            services.quotas.get_service_quota().service_code("ec2").quota_code(QUOTA).send()
        })
        .await;
    let quota = match answer {
        Ok(answer) => answer.quota().and_then(|quota| quota.value()).map(|value| value.max(0.0) as u64),
        Err(error @ Error::Throttled { .. }) => return Err(error),
        Err(error) => {
            hearing::say(&format!("whether there are enough vCPUs could not be checked: {error}"));
            None
        }
    };
    *client.room.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), quota));
    Ok(quota)
}

/// vCPUs of each type, as far as AWS says.
async fn vcpus(client: &Client, types: &[String]) -> Result<BTreeMap<String, u64>, Error> {
    let known = || client.room.types.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<InstanceType> = {
        let known = known();
        let missing = types.iter().filter(|name| !known.contains_key(*name));
        missing.map(|name| InstanceType::from(name.as_str())).collect()
    };
    // At most 100 types in a request (DescribeInstanceTypes).
    for some in missing.chunks(100) {
        let answer = client
            .call(operations::DESCRIBE_INSTANCE_TYPES, |services| {
                services.ec2.describe_instance_types().set_instance_types(Some(some.to_vec())).send()
            })
            .await?;
        let told = answer.instance_types().iter().filter_map(|info| {
            let vcpus = info.v_cpu_info()?.default_v_cpus()?;
            Some((info.instance_type()?.as_str().to_owned(), u64::try_from(vcpus).ok()?))
        });
        known().extend(told);
    }
    Ok(known().clone())
}

/// The instances that the quota counts, whoever launched them, and their vCPUs.
async fn in_use(client: &Client) -> Result<(BTreeSet<String>, u64), Error> {
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    let mut shown = BTreeSet::new();
    let mut next: Option<String> = None;
    loop {
        let page = client
            .call(operations::DESCRIBE_INSTANCES, |services| {
                let states = COUNTING.map(str::to_owned).to_vec();
                let filter = Filter::builder().name("instance-state-name").set_values(Some(states)).build();
                let ask = services.ec2.describe_instances().filters(filter).max_results(1000);
                ask.set_next_token(next.clone()).send()
            })
            .await?;
        let instances = page.reservations().iter().flat_map(|reservation| reservation.instances());
        for instance in instances.filter(counts) {
            shown.extend(instance.instance_id().map(str::to_owned));
            if let Some(name) = instance.instance_type() {
                *counted.entry(name.as_str().to_owned()).or_default() += 1;
            }
        }
        match page.next_token() {
            Some(token) if !token.is_empty() => next = Some(token.to_owned()),
            _ => break,
        }
    }
    let names: Vec<String> = counted.keys().cloned().collect();
    let sizes = vcpus(client, &names).await?;
    let vcpus = counted.iter().map(|(name, count)| count * sizes.get(name).copied().unwrap_or_default());
    Ok((shown, vcpus.sum()))
}

/// Spot instances have a quota of their own.
fn counts(instance: &&Instance) -> bool {
    instance.instance_lifecycle() != Some(&InstanceLifecycleType::Spot)
        && instance.instance_type().is_some_and(|name| is_standard(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::is_standard;

    #[test]
    fn the_quota_is_of_standard_families() {
        for name in ["t3.small", "m7g.large", "c6i.xlarge", "i4i.large", "z1d.large", "a1.medium"] {
            assert!(is_standard(name), "{name}");
        }
        for name in [
            "inf1.xlarge",
            "trn1.2xlarge",
            "dl1.24xlarge",
            "g5.xlarge",
            "p4d.24xlarge",
            "x2idn.xlarge",
            "u-6tb1.metal",
            "mac1.metal",
            "hpc7g.4xlarge",
            "f1.2xlarge",
        ] {
            assert!(!is_standard(name), "{name}");
        }
    }
}
