//! The real local balancer keeps what every balancer of a cloud promises.

use windlass::balancer::Client;
use windlass::cloud::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn the_local_balancer_conforms() {
    let data = tempfile::tempdir().unwrap();
    let make = async || Client::new(data.path().to_owned(), env!("CARGO_BIN_EXE_windlass").into());
    conformance::balancer(make).await;
    println!("conformance: the local balancer keeps every promise, with requests");
    make().await.stop().await.unwrap();
}
