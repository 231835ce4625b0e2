use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

use crate::cloud::Error;
use crate::cloud::aws::Aws;
use crate::cloud::aws::client::Clients;
use crate::cloud::setup;

const MINUTE: Duration = Duration::from_secs(60);

fn session(id: &str, lasts: Duration) -> Credentials {
    let ends = SystemTime::now() + lasts;
    Credentials::new(id, "secret", Some("token".to_owned()), Some(ends), "tests")
}

fn aws(provider: impl Into<Option<SharedCredentialsProvider>>) -> Aws {
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url("http://127.0.0.1:9");
    config.set_credentials_provider(provider.into());
    let config = config.build();
    let account = setup::Account {
        region: "eu-central-1".to_owned(),
        bucket: "acme-artifacts".to_owned(),
        role: None,
        poll: Duration::from_secs(10),
        rate: 10,
        keep_images: 5,
    };
    let setup = setup::Aws { account, builder: None, fleets: BTreeMap::new() };
    Aws::new(Arc::new(setup), &Clients::with(config))
}

#[tokio::test]
async fn an_address_leads_to_the_endpoint_and_holds_as_long_as_it_should() {
    let aws = aws(SharedCredentialsProvider::new(session("ONE", 60 * MINUTE)));
    let get = aws.presigned_get("shop/app 1.tar", 30 * MINUTE).await.unwrap();
    assert!(get.starts_with("http://127.0.0.1:9/acme-artifacts/shop/app%201.tar?"), "{get}");
    for part in ["X-Amz-Expires=1800", "X-Amz-Signature=", "X-Amz-Security-Token=token", "ONE%2F"] {
        assert!(get.contains(part), "{part} in {get}");
    }
    let put = aws.presigned_put("shop/app.tar", 30 * MINUTE).await.unwrap();
    assert!(put.starts_with("http://127.0.0.1:9/acme-artifacts/shop/app.tar?"), "{put}");
    // Whoever puts sends a body and nothing that it would have to know of.
    assert!(put.contains("X-Amz-SignedHeaders=host&"), "{put}");
    assert!(!put.contains("checksum"), "{put}");
}

#[tokio::test]
async fn no_address_outlives_its_session() {
    let aws = aws(SharedCredentialsProvider::new(session("ONE", 20 * MINUTE)));
    aws.session_lasts(15 * MINUTE).await.unwrap();
    for refused in [
        aws.session_lasts(20 * MINUTE).await,
        aws.presigned_get("shop/app", 30 * MINUTE).await.map(drop),
        aws.presigned_put("shop/app", 30 * MINUTE).await.map(drop),
        aws.session_lasts(8 * 24 * 60 * MINUTE).await,
    ] {
        let Err(Error::Denied(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("timeout"), "it says what to do: {why}");
    }
}

#[tokio::test]
async fn a_session_that_ends_too_early_is_renewed_and_one_that_lasts_is_kept() {
    let aws = aws(SharedCredentialsProvider::new(session("FRESH", 60 * MINUTE)));
    *aws.session.0.lock().await = Some(session("FIRST", 20 * MINUTE));
    let address = async |lasts| aws.presigned_get("shop/app", lasts).await.unwrap();
    assert!(address(15 * MINUTE).await.contains("FIRST"), "it lasts");
    assert!(address(30 * MINUTE).await.contains("FRESH"), "it would not");
    assert!(address(15 * MINUTE).await.contains("FRESH"));
}

#[tokio::test]
async fn credentials_that_never_end_and_none_at_all() {
    let forever = Credentials::new("ONE", "secret", None, None, "tests");
    let address = aws(SharedCredentialsProvider::new(forever)).presigned_get("a", 24 * 60 * MINUTE).await;
    assert!(address.unwrap().contains("X-Amz-Expires=86400"));
    let refused = aws(None).session_lasts(MINUTE).await;
    assert!(matches!(&refused, Err(Error::Denied(why)) if why.contains("doctor")), "{refused:?}");
}
