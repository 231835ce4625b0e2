use super::*;
use crate::cloud::Tags;
use crate::ids::{FleetId, PipelineName, RunId};

fn launch() -> Launch {
    let service: PipelineName = "shop".parse().unwrap();
    Launch {
        key: "shop-42.production.1.to.1".parse().unwrap(),
        name: "shop-production-42-9f3c2a1b-3".to_owned(),
        fleet: FleetId::new(service.clone(), "production".parse().unwrap()),
        image: "ami-1".parse().unwrap(),
        env: [("SHOP_DB".to_owned(), "x".to_owned())].into(),
        release: Digest::of(b"release"),
        tags: Tags {
            service: service.clone(),
            run: RunId::new(service, 42),
            stage: "production".to_owned(),
            key: "shop-42.production.1".parse().unwrap(),
        },
    }
}

fn version(number: i64, description: &str) -> LaunchTemplateVersion {
    LaunchTemplateVersion::builder().version_number(number).version_description(description).build()
}

fn decoded(data: &str) -> String {
    String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()
}

#[test]
fn a_version_of_ours_says_what_it_is_based_on() {
    let ours = described(&Digest::of(b"release"), 7, 8080);
    assert!(ours.len() <= 255, "a description has at most 255 characters: {}", ours.len());
    assert_eq!(base_of(&version(9, &ours)), 7);
    assert_eq!(base_of(&version(9, "what somebody wrote base=3")), 9);
    assert_ne!(ours, described(&Digest::of(b"release"), 7, 8081), "another port is another version");
}

#[test]
fn the_base_versions_own_user_data_stays() {
    let ours = launch_data::user_data(&launch(), 8080, For::Any).unwrap();
    assert_eq!(with_theirs(None, ours.clone(), &launch()).unwrap(), ours);
    let script = decoded(&ours);
    let both = with_theirs(Some(&STANDARD.encode("#cloud-config\nruncmd: []\n")), ours.clone(), &launch());
    let both = decoded(&both.unwrap());
    let theirs = both.find("\n\n#cloud-config\nruncmd: []\n").expect("theirs is a part");
    assert!(theirs < both.find(&script).expect("ours is one"), "theirs comes first: {both}");
    assert!(both.starts_with("MIME-Version: 1.0\nContent-Type: multipart/mixed;"));
    let message = "Content-Type: multipart/mixed; boundary=\"b\"\n\n--b\n\n#!/bin/sh\n--b--\n";
    let both = decoded(&with_theirs(Some(&STANDARD.encode(message)), ours, &launch()).unwrap());
    assert!(both.contains(&format!("==\n{message}\n--==")), "a message is a part as it is: {both}");
}

#[test]
fn user_data_that_nothing_can_be_added_to_is_refused() {
    let ours = launch_data::user_data(&launch(), 8080, For::Any).unwrap();
    let long = format!("#!/bin/sh\n# {}", "x".repeat(USER_DATA));
    for theirs in [&b"\x1f\x8b\x08compressed"[..], b"<powershell>x</powershell>", long.as_bytes()] {
        let refused = with_theirs(Some(&STANDARD.encode(theirs)), ours.clone(), &launch());
        assert!(
            matches!(&refused, Err(Error::Denied(why)) if why.contains("shop-production")),
            "{refused:?}"
        );
    }
}

#[test]
fn what_is_launched_carries_their_tags_and_ours() {
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    let theirs = aws_sdk_ec2::types::LaunchTemplateTagSpecification::builder()
        .resource_type(ResourceType::Instance)
        .tags(tag("team", "shop"))
        .tags(tag("Name", "old"))
        .build();
    let source = ResponseLaunchTemplateData::builder().tag_specifications(theirs).build();
    let all = tag_specifications(&source, &launch());
    let of = |resource: ResourceType| {
        let found =
            all.iter().find(|specification| specification.resource_type() == Some(&resource)).unwrap();
        let tags = found.tags().iter().map(|tag| (tag.key().unwrap(), tag.value().unwrap()));
        tags.collect::<Vec<_>>()
    };
    let instance = of(ResourceType::Instance);
    assert!(instance.contains(&("team", "shop")));
    assert!(instance.contains(&("Name", "shop-production-42-9f3c2a1b")), "{instance:?}");
    assert!(instance.contains(&(tags::FLEET, "shop-production")));
    assert_eq!(instance.iter().filter(|(key, _)| *key == "Name").count(), 1);
    assert!(!instance.iter().any(|(key, _)| *key == tags::KEY), "a key is of one instance");
    assert!(of(ResourceType::Volume).contains(&(tags::SERVICE, "shop")));
}
