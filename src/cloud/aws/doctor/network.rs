//! Subnets, security groups and instance types: they exist, in one VPC.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{Filter, InstanceType, LocationType, SecurityGroup, Subnet};

use super::Doctor;
use crate::cloud::Error;
use crate::cloud::aws::client::Client;
use crate::cloud::aws::operations::{
    DESCRIBE_INSTANCE_TYPE_OFFERINGS, DESCRIBE_SECURITY_GROUPS, DESCRIBE_SUBNETS,
};

/// Where instances are launched.
pub(super) struct Place<'a> {
    pub about: String,
    pub types: &'a [String],
    pub subnets: &'a [String],
    pub security_groups: &'a [String],
    /// Where the settings say so.
    pub settings: &'static str,
}

impl Doctor<'_> {
    /// The VPC, where subnets and security groups are all there and in one.
    pub(super) async fn network(&mut self, client: &Client, place: &Place<'_>) -> Option<String> {
        let about = place.about.as_str();
        let described = async {
            Ok::<_, Error>((
                subnets(client, place.subnets).await?,
                groups(client, place.security_groups).await?,
            ))
        };
        let (subnets, groups) = match described.await {
            Ok(described) => described,
            Err(error) => {
                let next = "windlass policy prints what has to be allowed";
                self.findings.failed(about, &error, next);
                return None;
            }
        };
        let mut lacks = absent(place.subnets, subnets.iter().filter_map(Subnet::subnet_id));
        lacks.extend(absent(place.security_groups, groups.iter().filter_map(SecurityGroup::group_id)));
        if !lacks.is_empty() {
            let says = format!("there is no {} in {}", lacks.join(", no "), client.region());
            self.findings.missing(about, says, format!("mend {} in the settings", place.settings));
            return None;
        }
        let of = |id: Option<&str>, vpc: Option<&str>| {
            format!("{} is in {}", id.unwrap_or("one"), vpc.unwrap_or("no VPC"))
        };
        let vpcs: BTreeSet<&str> = (subnets.iter().filter_map(Subnet::vpc_id))
            .chain(groups.iter().filter_map(SecurityGroup::vpc_id))
            .collect();
        if vpcs.len() > 1 {
            let subnets = subnets.iter().map(|subnet| of(subnet.subnet_id(), subnet.vpc_id()));
            let groups = groups.iter().map(|group| of(group.group_id(), group.vpc_id()));
            let says =
                format!("it is in several VPCs: {}", subnets.chain(groups).collect::<Vec<_>>().join(", "));
            let next = format!("name subnets and security groups of one VPC in {}", place.settings);
            self.findings.missing(about, says, next);
            return None;
        }
        self.addresses(about, &subnets);
        self.offered(client, place, &subnets).await;
        vpcs.first().map(|vpc| (*vpc).to_owned())
    }

    fn addresses(&mut self, about: &str, subnets: &[Subnet]) {
        let full = subnets.iter().filter(|subnet| subnet.available_ip_address_count() == Some(0));
        let full: Vec<&str> = full.filter_map(Subnet::subnet_id).collect();
        let names: Vec<&str> = subnets.iter().filter_map(Subnet::subnet_id).collect();
        let free: i32 = subnets.iter().filter_map(Subnet::available_ip_address_count).sum();
        match full.is_empty() {
            true => {
                let vpc = subnets.iter().find_map(Subnet::vpc_id).unwrap_or("a VPC");
                let says = format!("{} of {vpc} with {free} free addresses", names.join(", "));
                self.findings.ok(about, says);
            }
            false => {
                let says = format!("no address is free in {}", full.join(", "));
                self.findings.missing(about, says, "end what is not needed there, or name another subnet");
            }
        }
    }

    /// Whether the types can be had in the subnets' zones.
    async fn offered(&mut self, client: &Client, place: &Place<'_>, subnets: &[Subnet]) {
        let zones: BTreeSet<&str> = subnets.iter().filter_map(Subnet::availability_zone).collect();
        let types: Vec<InstanceType> = place.types.iter().map(|name| name.as_str().into()).collect();
        let filters = || {
            let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
            let types = types.iter().map(|name| name.as_str().to_owned()).collect();
            vec![filter("location", zones), filter("instance-type", types)]
        };
        let offered = client
            .call(DESCRIBE_INSTANCE_TYPE_OFFERINGS, |services| {
                let request = services.ec2.describe_instance_type_offerings();
                request.location_type(LocationType::AvailabilityZone).set_filters(Some(filters())).send()
            })
            .await;
        let offered = match offered {
            Ok(answer) => answer.instance_type_offerings.unwrap_or_default(),
            Err(error) => {
                let next = "windlass policy prints what has to be allowed";
                return self.findings.failed(&place.about, &error, next);
            }
        };
        for name in place.types {
            let there =
                offered.iter().filter(|offer| offer.instance_type().map(InstanceType::as_str) == Some(name));
            let there: BTreeSet<&str> = there.filter_map(|offer| offer.location()).collect();
            let about = format!("{} {name}", place.about);
            if there.is_empty() {
                let says = format!("it is not offered in {}", join(&zones));
                self.findings.missing(about, says, format!("name another type in {}", place.settings));
            } else if there != zones {
                let less: BTreeSet<&str> = zones.difference(&there).copied().collect();
                self.findings.ok(about, format!("offered in {}, and not in {}", join(&there), join(&less)));
            } else {
                self.findings.ok(about, format!("offered in {}", join(&there)));
            }
        }
    }
}

async fn subnets(client: &Client, ids: &[String]) -> Result<Vec<Subnet>, Error> {
    let answer = client
        .call(DESCRIBE_SUBNETS, |services| {
            services.ec2.describe_subnets().filters(filter("subnet-id", ids.to_vec())).send()
        })
        .await?;
    Ok(answer.subnets.unwrap_or_default())
}

async fn groups(client: &Client, ids: &[String]) -> Result<Vec<SecurityGroup>, Error> {
    // An empty filter means all of them.
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let answer = client
        .call(DESCRIBE_SECURITY_GROUPS, |services| {
            services.ec2.describe_security_groups().filters(filter("group-id", ids.to_vec())).send()
        })
        .await?;
    Ok(answer.security_groups.unwrap_or_default())
}

fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

fn absent<'a>(wanted: &'a [String], there: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let there: BTreeSet<&str> = there.collect();
    wanted.iter().map(String::as_str).filter(|id| !there.contains(id)).collect()
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
