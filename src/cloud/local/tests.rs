use super::*;
use crate::cloud::conformance;

#[tokio::test]
async fn the_local_cloud_is_a_compute() {
    let room = tempfile::tempdir().unwrap();
    conformance::compute(room.path(), async || Local::new(room.path().join("data"))).await;
}

#[tokio::test]
async fn local_objects_are_objects() {
    let room = tempfile::tempdir().unwrap();
    conformance::objects(room.path(), async || LocalObjects::new(room.path().join("objects"))).await;
}
