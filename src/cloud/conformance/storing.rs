//! Objects by name.

use std::path::Path;

use crate::cloud::{Error, Objects};
use crate::ids::Digest;

/// Every promise of [`Objects`]. `make` makes an empty store; `scratch` is a directory for files.
pub async fn objects<O: Objects>(scratch: &Path, make: impl AsyncFn() -> O) {
    let file = |name: &str, content: &str| {
        let path = scratch.join(name);
        std::fs::write(&path, content).expect("the scratch directory is writable");
        (path, Digest::of(content.as_bytes()))
    };
    let (one, one_digest) = file("one", "one");
    let (two, two_digest) = file("two", "two");
    let back = scratch.join("back");
    let store = make().await;

    assert_eq!(store.list("").await.expect("an empty store is listed"), Vec::<String>::new());
    assert_eq!(store.digest("shop/app").await.expect("what is missing is asked for"), None);
    let missing = store.get("shop/app", &back).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "what is missing is not found: {missing:?}");
    assert!(!back.exists(), "what is missing leaves no file");

    for _ in 0..2 {
        store.put("shop/app", &one, &one_digest).await.expect("the same content is stored again");
        assert_eq!(store.digest("shop/app").await.expect("it is there"), Some(one_digest.clone()));
    }
    store.get("shop/app", &back).await.expect("what was stored comes back");
    assert_eq!(std::fs::read(&back).expect("it was written"), b"one");

    store.put("shop/app", &two, &two_digest).await.expect("other content replaces it");
    store.get("shop/app", &back).await.expect("the new content comes back");
    assert_eq!(std::fs::read(&back).expect("it was written"), b"two");

    let wrong = store.put("shop/wrong", &one, &two_digest).await;
    assert!(wrong.is_err(), "content that has another digest is refused");
    assert_eq!(store.digest("shop/wrong").await.expect("it is asked for"), None, "and not stored");
    let wrong = store.put("shop/app", &one, &Digest::of(b"another")).await;
    assert!(wrong.is_err(), "also where there is something already");
    assert_eq!(store.digest("shop/app").await.expect("it is there"), Some(two_digest.clone()));

    for key in ["shop/z", "shop/a/b", "shop-b/a", "other"] {
        store.put(key, &one, &one_digest).await.expect("it is stored");
    }
    let list = async |prefix: &str| store.list(prefix).await.expect("keys are listed");
    assert_eq!(list("shop/").await, ["shop/a/b", "shop/app", "shop/z"]);
    assert_eq!(list("shop").await, ["shop-b/a", "shop/a/b", "shop/app", "shop/z"]);
    assert_eq!(list("nothing").await, Vec::<String>::new());

    let long = "x".repeat(1025);
    for key in ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", "a/./b", ".x", "a\0b", long.as_str()] {
        assert!(store.put(key, &one, &one_digest).await.is_err(), "the key {key:?} is refused");
        assert!(store.get(key, &back).await.is_err(), "the key {key:?} is refused");
        assert!(store.digest(key).await.is_err(), "the key {key:?} is refused");
    }
    assert_eq!(list("").await.len(), 5, "nothing was stored under a refused key");

    let location = store.location("shop/app");
    assert!(location.contains("://") && location.ends_with("/shop/app"), "{location}");

    // Writers at once: one content or the other, never a mixture.
    let (large, large_digest) = file("large", &"large".repeat(200_000));
    for _ in 0..4 {
        let put = |file, digest| store.put("shop/race", file, digest);
        let (a, b) = futures_util::join!(put(&large, &large_digest), put(&one, &one_digest));
        a.and(b).expect("both are stored");
        let stored = store.digest("shop/race").await.expect("it is there");
        assert!(stored == Some(large_digest.clone()) || stored == Some(one_digest.clone()), "a mixture");
    }
}
