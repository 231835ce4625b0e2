use super::*;
use crate::store::conformance;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    conformance::exercise(async |place: &str| {
        let directory = root.path().join(place);
        std::fs::create_dir_all(&directory).unwrap();
        Arc::new(Sqlite::open(&directory).await.unwrap()) as Arc<dyn Store>
    })
    .await;
}
