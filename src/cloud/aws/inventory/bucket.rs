//! What lies in the bucket and belongs to a run: uploads that were not completed, and what builders fetch
//! and write.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use jiff::Timestamp;

use super::{changed, gone_is_fine, time};
use crate::cloud::Error;
use crate::cloud::aws::Aws;
use crate::cloud::aws::client::Services;
use crate::cloud::aws::operations as op;
use crate::cloud::inventory::{Kind, Thing};
use crate::ids::{Digest, RunId};

/// Under which builders fetch and write.
const SCRATCH: &str = "bakes/";

/// Most keys that DeleteObjects takes.
const DELETED_AT_ONCE: usize = 1000;

/// An object that somebody's scratch consists of.
struct Object {
    key: String,
    written_at: Timestamp,
    bytes: u64,
}

impl Aws {
    /// Uploads in parts that nobody completed, under the names that we give.
    pub(super) async fn open_uploads(&self) -> Result<Vec<Thing>, Error> {
        let bucket = &self.setup.account.bucket;
        let (mut things, mut next) = (Vec::new(), None);
        loop {
            let answer = self.client.call(op::LIST_MULTIPART_UPLOADS, |services: &Services| {
                let request = services.s3.list_multipart_uploads().bucket(bucket);
                let (key, upload): (Option<String>, Option<String>) = next.clone().unzip();
                request.set_key_marker(key).set_upload_id_marker(upload).send()
            });
            let answer = answer.await?;
            things.extend(answer.uploads().iter().filter_map(|upload| {
                let key = upload.key()?;
                let begun = upload.initiated().and_then(time)?;
                let thing = marked(Thing::new(Kind::Upload, upload.upload_id()?, begun), key)?;
                Some(Thing { name: Some(key.to_owned()), ..thing })
            }));
            next = match (answer.is_truncated(), answer.next_key_marker(), answer.next_upload_id_marker()) {
                (Some(true), Some(key), Some(upload)) => Some((key.to_owned(), upload.to_owned())),
                _ => return Ok(things),
            };
        }
    }

    /// What each bake left, as one thing.
    pub(super) async fn scratch(&self) -> Result<Vec<Thing>, Error> {
        let mut places: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for object in self.objects_under(SCRATCH).await? {
            if let Some(place) = place(&object.key) {
                places.entry(place.to_owned()).or_default().push(object);
            }
        }
        Ok(places.into_iter().filter_map(|(place, objects)| left_of(&place, objects)).collect())
    }

    async fn objects_under(&self, prefix: &str) -> Result<Vec<Object>, Error> {
        let bucket = &self.setup.account.bucket;
        let (mut objects, mut next) = (Vec::new(), None);
        loop {
            let answer = self.client.call(op::LIST_OBJECTS_V2, |services: &Services| {
                let request = services.s3.list_objects_v2().bucket(bucket).prefix(prefix);
                request.set_continuation_token(next.clone()).send()
            });
            let answer = answer.await?;
            objects.extend(answer.contents().iter().filter_map(|object| {
                Some(Object {
                    key: object.key()?.to_owned(),
                    written_at: object.last_modified().and_then(time)?,
                    bytes: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                })
            }));
            next = answer.next_continuation_token().map(str::to_owned);
            if next.is_none() {
                return Ok(objects);
            }
        }
    }

    pub(super) async fn abort(&self, thing: &Thing) -> Result<(), Error> {
        let bucket = &self.setup.account.bucket;
        let key = thing.name.as_deref().unwrap_or_default();
        let ended = self.client.call(op::ABORT_MULTIPART_UPLOAD, |services: &Services| {
            let request = services.s3.abort_multipart_upload().bucket(bucket).key(key);
            request.upload_id(&thing.id).send()
        });
        gone_is_fine(ended.await.map(drop))
    }

    pub(super) async fn end_scratch(&self, thing: &Thing) -> Result<(), Error> {
        let objects = self.objects_under(&thing.id).await?;
        if objects.iter().any(|object| object.written_at > thing.created_at) {
            return Err(changed(thing));
        }
        let bucket = &self.setup.account.bucket;
        for some in objects.chunks(DELETED_AT_ONCE) {
            let keys = some.iter().map(|object| ObjectIdentifier::builder().key(&object.key).build());
            let unbuilt = |error: aws_sdk_s3::error::BuildError| Error::Failed(error.to_string());
            let keys = keys.collect::<Result<Vec<_>, _>>().map_err(unbuilt)?;
            let delete = Delete::builder().set_objects(Some(keys)).quiet(true).build().map_err(unbuilt)?;
            let answer = self.client.call(op::DELETE_OBJECTS, |services: &Services| {
                services.s3.delete_objects().bucket(bucket).delete(delete.clone()).send()
            });
            if let Some(left) = answer.await?.errors().first() {
                let (key, why) = (left.key().unwrap_or("an object"), left.message().unwrap_or("no reason"));
                return Err(Error::Failed(format!("{key} could not be deleted: {why}")));
            }
        }
        Ok(())
    }
}

/// Where one image is made: of all keys that start with it. What several builders fetch is nobody's alone,
/// and no place.
fn place(key: &str) -> Option<&str> {
    let (image, _) = key.strip_prefix(SCRATCH)?.split_once('/')?;
    image.parse::<Digest>().ok()?;
    key.get(..SCRATCH.len() + image.len() + 1)
}

/// What the builders of one image left. It is of the attempt that followed one of them last.
fn left_of(place: &str, objects: Vec<Object>) -> Option<Thing> {
    let newest = objects.iter().map(|object| object.written_at).max()?;
    let thing = Thing::new(Kind::Scratch, place, newest);
    let follower = |object: &Object| {
        let (_, key) = object.key.split_once("/followers/")?;
        Some((object.written_at, key.to_owned()))
    };
    let thing = match objects.iter().filter_map(follower).max() {
        Some((_, key)) => thing.of_attempt(&key),
        None => thing,
    };
    Some(Thing {
        image_key: place.strip_prefix(SCRATCH)?.trim_end_matches('/').parse().ok(),
        bytes: Some(objects.iter().map(|object| object.bytes).sum()),
        ..thing
    })
}

/// The thing with what its key says: `storefront/storefront-42-9f3c2a1b/app.tar`. `None`: the key is none
/// of ours.
fn marked(thing: Thing, key: &str) -> Option<Thing> {
    let (service, rest) = key.split_once('/')?;
    let (version, _) = rest.strip_prefix(service)?.strip_prefix('-')?.split_once('/')?;
    let number = version.split('-').next()?;
    let run: RunId = format!("{service}/{number}").parse().ok()?;
    Some(Thing { service: Some(run.pipeline.clone()), run: Some(run), ..thing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_the_run_it_is_of() {
        let run = |key| {
            let thing = Thing::new(Kind::Upload, "u", Timestamp::UNIX_EPOCH);
            marked(thing, key).and_then(|thing| thing.run).map(|run| run.to_string())
        };
        assert_eq!(run("my-shop/my-shop-42-9f3c2a1b/app.tar").as_deref(), Some("my-shop/42"));
        assert_eq!(run("shop/shop-7/manifest.json").as_deref(), Some("shop/7"));
        for other in ["", "shop", "shop/other-7/x", "shop/shop-7", "shop/shop-x/y", "backup/a/b", "bakes/x/y"]
        {
            assert_eq!(run(other), None, "{other}");
        }
    }

    #[test]
    fn scratch_is_of_whoever_followed_its_builder_last() {
        let image = Digest::of(b"image");
        let place = format!("bakes/{image}/");
        assert_eq!(super::place(&format!("{place}1/log")), Some(place.as_str()));
        assert_eq!(super::place("bakes/contents/0a.tar"), None);
        assert_eq!(super::place("bakes/stray"), None);
        let object = |name: &str, at| Object {
            key: format!("{place}{name}"),
            written_at: Timestamp::from_second(at).unwrap(),
            bytes: 2,
        };
        let objects = vec![
            object("1/followers/shop-9.bake.1", 5),
            object("2/followers/shop-7.bake.2", 8),
            object("2/log", 9),
        ];
        let thing = left_of(&place, objects).unwrap();
        assert_eq!(thing.run, Some("shop/7".parse().unwrap()));
        assert_eq!((thing.bytes, thing.image_key), (Some(6), Some(image)));
        assert_eq!(thing.created_at, Timestamp::from_second(9).unwrap());
        let strange = left_of(&place, vec![object("1/log", 1)]).unwrap();
        assert_eq!(strange.run, None);
    }
}
