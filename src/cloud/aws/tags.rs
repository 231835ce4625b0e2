//! What everything of ours on AWS carries.

use crate::cloud::Tags;

pub const SERVICE: &str = "windlass:service";
pub const RUN: &str = "windlass:run";
pub const STAGE: &str = "windlass:stage";
/// The intent that asked for it.
pub const KEY: &str = "windlass:key";
/// Of instances: `storefront-production`.
pub const FLEET: &str = "windlass:fleet";
pub const ENVIRONMENT: &str = "windlass:environment";
/// Of instances: the digest of what it runs.
pub const RELEASE: &str = "windlass:release";
/// Of builders, their images and snapshots: the digest of what the image is made of.
pub const IMAGE: &str = "windlass:image";
/// Of builders: which of the builders for that image, counted from 1.
pub const GENERATION: &str = "windlass:generation";
pub const PARENT: &str = "windlass:parent";
/// Of images: the machine image that it starts from, where that is none of ours.
pub const BASE: &str = "windlass:base";
pub const COMMIT: &str = "windlass:commit";
pub const START: &str = "windlass:start";
/// Of images: `true` once they passed.
pub const CERTIFIED: &str = "windlass:certified";
/// Of instances: the fleet in which it stands by without being in a target group.
pub const STANDBY: &str = "windlass:standby";
/// What people see.
pub const NAME: &str = "Name";

/// The tags that everything has.
pub fn of(tags: &Tags) -> Vec<(String, String)> {
    [
        (SERVICE, tags.service.to_string()),
        (RUN, tags.run.to_string()),
        (STAGE, tags.stage.clone()),
        (KEY, tags.key.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// As long as EC2 takes the value of a tag: "Tag your Amazon EC2 resources", Amazon EC2 User Guide.
const VALUE_LIMIT: usize = 256;

/// Tags as EC2 takes them; a value that is too long is cut.
pub fn ec2(tags: impl IntoIterator<Item = (String, String)>) -> Vec<aws_sdk_ec2::types::Tag> {
    let tag = |(name, value): (String, String)| {
        let value: String = value.chars().take(VALUE_LIMIT).collect();
        aws_sdk_ec2::types::Tag::builder().key(name).value(value).build()
    };
    tags.into_iter().map(tag).collect()
}

/// The value of a tag.
pub fn value<'a>(tags: &'a [aws_sdk_ec2::types::Tag], name: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(name))?.value()
}
