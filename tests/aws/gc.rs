//! What there is of ours in an account, and its end.

use aws_sdk_ec2::types::{InstanceType, ResourceType, Tag, TagSpecification};
use serde_json::json;
use windlass::cloud::inventory::{Inventory, Kind, Thing};
use windlass::cloud::{Cloud, Error, aws, setup};

use crate::emulator::Emulator;

const IMAGE: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn cloud(emulator: &Emulator) -> Cloud {
    let (account, builder) = (emulator.account(), Some(emulator.builder()));
    let setup = setup::Aws { account, builder, fleets: Default::default() };
    aws::Accounts::with(emulator.config()).open(&std::sync::Arc::new(setup))
}

fn ec2(emulator: &Emulator) -> aws_sdk_ec2::Client {
    aws_sdk_ec2::Client::new(&emulator.config())
}

fn tags(own: &[(&str, &str)]) -> Vec<Tag> {
    let all = [("windlass:service", "shop"), ("windlass:run", "shop/7"), ("windlass:stage", "bake")];
    all.iter().chain(own).map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect()
}

/// Launches an instance with these tags besides those that everything has.
async fn launch(emulator: &Emulator, own: &[(&str, &str)]) -> String {
    let said = TagSpecification::builder().resource_type(ResourceType::Instance);
    let request = ec2(emulator).run_instances().image_id(&emulator.world.base.ami);
    let request = request.instance_type(InstanceType::T3Small).subnet_id(&emulator.world.subnets[0]);
    let request = request.tag_specifications(said.set_tags(Some(tags(own))).build());
    let made = request.min_count(1).max_count(1).send().await.unwrap();
    made.instances()[0].instance_id().unwrap().to_owned()
}

async fn one(inventory: &dyn Inventory, kind: Kind, id: &str) -> Option<Thing> {
    let things = inventory.things().await.unwrap();
    things.into_iter().find(|thing| thing.kind == kind && thing.id == id)
}

#[tokio::test]
async fn builders_and_instances_are_told_apart_and_ended_as_they_were_seen() {
    let emulator = Emulator::start(json!({ "lag": 0 }));
    let inventory = cloud(&emulator).inventory;
    let builder = launch(&emulator, &[("windlass:key", "shop-7.bake.1"), ("windlass:image", IMAGE)]).await;
    let fleet = [("windlass:fleet", "shop-production"), ("windlass:release", IMAGE)];
    let instance = launch(&emulator, &fleet).await;
    let other = ec2(&emulator).run_instances().image_id(&emulator.world.base.ami);
    let other = other.instance_type(InstanceType::T3Small).subnet_id(&emulator.world.subnets[0]);
    let other = other.min_count(1).max_count(1).send().await.unwrap();
    let other = other.instances()[0].instance_id().unwrap().to_owned();

    let seen = one(inventory.as_ref(), Kind::Builder, &builder).await.unwrap();
    assert_eq!(seen.run, Some("shop/7".parse().unwrap()));
    assert_eq!((seen.key.unwrap().as_str(), seen.image_key.unwrap().as_str()), ("shop-7.bake.1", IMAGE));
    let seen = one(inventory.as_ref(), Kind::Instance, &instance).await.unwrap();
    assert_eq!(seen.fleet.as_ref().unwrap().to_string(), "shop-production");
    assert!(inventory.things().await.unwrap().iter().all(|thing| thing.id != other), "it is none of ours");

    let changed = Thing { run: Some("shop/6".parse().unwrap()), ..seen.clone() };
    assert!(matches!(inventory.end(&changed).await, Err(Error::Conflict(_))));
    assert_eq!(emulator.living().len(), 3);
    inventory.end(&seen).await.unwrap();
    inventory.end(&seen).await.unwrap();
    assert_eq!(one(inventory.as_ref(), Kind::Instance, &instance).await, None);
    assert_eq!(emulator.living().len(), 2);
}

#[tokio::test]
async fn an_image_goes_with_its_snapshots_also_when_whoever_ends_it_is_stopped_between() {
    let emulator = Emulator::start(json!({ "lag": 0 }));
    let (inventory, ec2) = (cloud(&emulator).inventory, ec2(&emulator));
    let builder = launch(&emulator, &[("windlass:image", IMAGE)]).await;
    emulator
        .until("it runs", |_| emulator.living().iter().any(|one| one["state"] == "running").then_some(()));
    let made = ec2.create_image().instance_id(&builder).name("shop-7").send().await.unwrap();
    let id = made.image_id().unwrap().to_owned();
    ec2.create_tags().resources(&id).set_tags(Some(tags(&[("windlass:image", IMAGE)]))).send().await.unwrap();
    let deadline = tokio::time::Instant::now() + crate::emulator::PATIENCE;
    let image = loop {
        let seen = one(inventory.as_ref(), Kind::Image, &id).await;
        if let Some(image) = seen.filter(|image| !image.parts.is_empty()) {
            break image;
        }
        assert!(tokio::time::Instant::now() < deadline, "it has no snapshots");
    };
    let certified = Thing { certified: true, ..image.clone() };
    assert!(matches!(inventory.end(&certified).await, Err(Error::Conflict(_))));

    let refused = emulator.rule(json!({ "operations": ["DeleteSnapshot"], "fault": "error", "code": "UnauthorizedOperation", "message": "no", "status": 403 }));
    assert!(inventory.end(&image).await.is_err());
    assert_eq!(one(inventory.as_ref(), Kind::Image, &id).await, None, "it can be launched no more");
    let left = one(inventory.as_ref(), Kind::Snapshot, &image.parts[0]).await.unwrap();
    assert_eq!((&left.run, &left.image_key), (&image.run, &image.image_key), "it says whose it is");
    emulator.clear(refused);
    inventory.end(&left).await.unwrap();
    inventory.end(&image).await.unwrap();
    assert_eq!(one(inventory.as_ref(), Kind::Snapshot, &image.parts[0]).await, None);
}

#[tokio::test]
async fn uploads_and_scratch_are_found_by_their_names_and_nothing_else_is_touched() {
    let emulator = Emulator::start(json!({ "lag": 0 }));
    let inventory = cloud(&emulator).inventory;
    let s3 = aws_sdk_s3::config::Builder::from(&emulator.config()).force_path_style(true).build();
    let s3 = aws_sdk_s3::Client::from_conf(s3);
    let bucket = &emulator.world.bucket;
    let begin = async |key: &str| {
        let begun = s3.create_multipart_upload().bucket(bucket).key(key).send().await.unwrap();
        begun.upload_id().unwrap().to_owned()
    };
    let ours = begin("shop/shop-7-9f3c2a1b/app.tar").await;
    begin("backup/monday.tar").await;
    let bake = format!("bakes/{IMAGE}/");
    for key in ["1/log", "1/followers/shop-7.bake.1"].map(|name| format!("{bake}{name}")) {
        s3.put_object().bucket(bucket).key(key).body(b"text".to_vec().into()).send().await.unwrap();
    }
    let shared = "bakes/contents/1.tar";
    s3.put_object().bucket(bucket).key(shared).body(b"text".to_vec().into()).send().await.unwrap();

    let things = inventory.things().await.unwrap();
    let of = |kind| things.iter().filter(|thing| thing.kind == kind).collect::<Vec<_>>();
    let (uploads, scratch) = (of(Kind::Upload), of(Kind::Scratch));
    assert_eq!((uploads.len(), scratch.len()), (1, 1), "{things:#?}");
    assert_eq!((uploads[0].id.as_str(), &uploads[0].run), (ours.as_str(), &scratch[0].run));
    assert_eq!((scratch[0].id.as_str(), scratch[0].bytes), (bake.as_str(), Some(8)));
    for thing in [uploads[0], scratch[0], uploads[0], scratch[0]] {
        inventory.end(thing).await.unwrap();
    }
    let left = s3.list_objects_v2().bucket(bucket).prefix("bakes/").send().await.unwrap();
    assert_eq!(left.contents().iter().filter_map(|object| object.key()).collect::<Vec<_>>(), [shared]);
    let open = s3.list_multipart_uploads().bucket(bucket).send().await.unwrap();
    assert_eq!(open.uploads().len(), 1);
    assert!(inventory.things().await.unwrap().is_empty());
}
