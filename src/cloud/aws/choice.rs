//! PURE. Where an instance is launched, and what is tried next where there is no room.

use std::collections::BTreeMap;
use std::fmt;

use crate::cloud::setup::LaunchSpec;
use crate::ids::{Digest, Key};

/// A place for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub instance_type: String,
    pub subnet: String,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.instance_type, self.subnet)
    }
}

impl Pair {
    /// The client token of a launch there: the same for the same launch, at most 64 ASCII characters
    /// ("Ensuring idempotency in Amazon EC2 API requests"). Another generation is another launch.
    pub fn token(&self, key: &Key, generation: u32) -> String {
        let Self { instance_type, subnet } = self;
        Digest::of(format!("{key}\n{subnet}\n{instance_type}\n{generation}").as_bytes()).to_string()
    }
}

/// The places to try, in this order: every subnet with the first type, then with the next. The subnets
/// that have the fewest members come first, so that they are spread evenly; `members` are the subnets of
/// those that live, and whether they run the same release, which counts before all others: those go.
pub(super) fn order(spec: &LaunchSpec, members: &[(String, bool)]) -> Vec<Pair> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (subnet, same) in members {
        let (alike, all) = counts.entry(subnet).or_default();
        *alike += usize::from(*same);
        *all += 1;
    }
    let mut subnets: Vec<&String> = Vec::new();
    for subnet in &spec.subnets {
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
    }
    subnets.sort_by_key(|subnet| counts.get(subnet.as_str()).copied().unwrap_or_default());
    let pair = |instance_type: &String, subnet: &&String| Pair {
        instance_type: instance_type.clone(),
        subnet: (*subnet).clone(),
    };
    let of = |instance_type| subnets.iter().map(move |subnet| pair(instance_type, subnet));
    spec.types.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LaunchSpec {
        LaunchSpec {
            types: vec!["t3.small".to_owned(), "t3a.small".to_owned()],
            subnets: vec!["a".to_owned(), "b".to_owned(), "a".to_owned()],
            security_groups: Vec::new(),
            profile: None,
            key_pair: None,
        }
    }

    fn said(members: &[(&str, bool)]) -> String {
        let members: Vec<_> = members.iter().map(|(subnet, same)| ((*subnet).to_owned(), *same)).collect();
        let pairs: Vec<_> = order(&spec(), &members).iter().map(ToString::to_string).collect();
        pairs.join(", ")
    }

    #[test]
    fn every_subnet_is_tried_before_the_next_type() {
        assert_eq!(said(&[]), "t3.small in a, t3.small in b, t3a.small in a, t3a.small in b");
    }

    #[test]
    fn the_emptier_subnet_comes_first_and_what_runs_the_same_counts_most() {
        let b_first = "t3.small in b, t3.small in a, t3a.small in b, t3a.small in a";
        assert_eq!(said(&[("a", true)]), b_first);
        assert_eq!(said(&[("a", true), ("b", false), ("b", false)]), b_first);
        assert_eq!(said(&[("a", false)]), b_first);
        assert_eq!(said(&[("elsewhere", true)]), said(&[]));
    }

    #[test]
    fn a_rollout_ends_spread_evenly_whoever_goes_when() {
        let mut members = vec![("a", false), ("b", false), ("a", false), ("b", false)];
        for _ in 0..4 {
            let first = if said(&members).starts_with("t3.small in a") { "a" } else { "b" };
            members.push((first, true));
            members.remove(0);
        }
        assert_eq!(members.iter().filter(|(subnet, _)| *subnet == "a").count(), 2);
    }

    #[test]
    fn a_token_is_of_one_launch_in_one_place() {
        let key: Key = "shop-42.production.1.to.1".parse().unwrap();
        let here = Pair { instance_type: "t3.small".to_owned(), subnet: "a".to_owned() };
        let there = Pair { subnet: "b".to_owned(), ..here.clone() };
        assert_eq!(here.token(&key, 0), here.token(&key, 0));
        assert_eq!((here.token(&key, 0).len(), here.token(&key, 0).is_ascii()), (64, true));
        let all = [here.token(&key, 0), here.token(&key, 1), there.token(&key, 0)];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    }
}
