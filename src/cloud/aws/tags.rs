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
pub const PARENT: &str = "windlass:parent";
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
