//! What every store promises of its inbox.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{minutes, name};
use crate::store::{
    Delivery, DeliveryFilter, DeliveryKey, DeliveryStatus, Error, NewDelivery, Receipt, Settlement, Store,
};

pub(super) async fn exercise(open: &impl AsyncFn(&str) -> Arc<dyn Store>) {
    a_delivery_is_taken_in_once(&open("delivered").await, &open("delivered").await).await;
    deliveries_are_listed_newest_first(&*open("deliveries").await).await;
    what_came_of_a_delivery_is_kept(&*open("settled").await).await;
    any_bytes_come_back(&*open("bodies").await).await;
    old_bodies_go_and_deliveries_stay_known(&*open("forgotten").await).await;
    schedules_are_marked(&*open("schedules").await).await;

    let store = open("inbox").await;
    assert_eq!(deliver(&*store, "left", 0).await, Receipt::New);
    store.mark_schedule(&name("storefront"), minutes(3)).await.expect("a mark");
    drop(store);
    let store = open("inbox").await;
    assert_eq!(deliver(&*store, "left", 1).await, Receipt::Known);
    assert_eq!(store.pending_deliveries().await.expect("deliveries"), [key("left")]);
    assert_eq!(store.schedule_mark(&name("storefront")).await.expect("a mark"), Some(minutes(3)));
}

/// A delivery from GitHub, `minute` minutes after the suite's beginning of time.
pub fn new_delivery(id: &str, minute: i64) -> NewDelivery {
    let (event, received_at) = ("push".to_owned(), minutes(minute));
    NewDelivery { key: key(id), event, received_at, body: format!("body of {id}").into_bytes() }
}

fn key(id: &str) -> DeliveryKey {
    DeliveryKey { source: "github".to_owned(), id: id.to_owned() }
}

fn settlement(status: DeliveryStatus, reason: &str) -> Settlement {
    let runs = vec!["storefront/1".parse().expect("a run"), "warehouse/7".parse().expect("a run")];
    Settlement { status, reason: (!reason.is_empty()).then(|| reason.to_owned()), runs }
}

async fn deliver(store: &dyn Store, id: &str, minute: i64) -> Receipt {
    store.deliver(new_delivery(id, minute)).await.expect("a delivery is taken in")
}

async fn found(store: &dyn Store, id: &str) -> Delivery {
    store.delivery(id).await.expect("deliveries are read").expect("the delivery is there")
}

async fn listed(store: &dyn Store, filter: DeliveryFilter) -> Vec<String> {
    let deliveries = store.deliveries(&filter).await.expect("deliveries are listed");
    assert!(deliveries.iter().all(|delivery| delivery.body.is_none()), "lists have no bodies");
    deliveries.into_iter().map(|delivery| delivery.key.id).collect()
}

async fn a_delivery_is_taken_in_once(one: &Arc<dyn Store>, other: &Arc<dyn Store>) {
    let all = (0..60).map(|n| {
        let store = if n % 2 == 0 { one.clone() } else { other.clone() };
        tokio::spawn(async move { deliver(&*store, &format!("{}", n / 6), n).await })
    });
    let receipts = join_all(all).await;
    let new = receipts.iter().filter(|receipt| matches!(receipt, Ok(Receipt::New))).count();
    assert_eq!((receipts.len(), new), (60, 10));
    assert_eq!(listed(&**one, DeliveryFilter::default()).await.len(), 10);
    let elsewhere = DeliveryKey { source: "schedule".to_owned(), id: "storefront@0".to_owned() };
    let due = NewDelivery { key: elsewhere, ..new_delivery("", 0) };
    assert_eq!(one.deliver(due).await.expect("it is taken in"), Receipt::New);
}

async fn deliveries_are_listed_newest_first(store: &dyn Store) {
    assert_eq!(store.delivery("none").await.expect("nothing"), None);
    for (minute, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        deliver(store, id, minute as i64).await;
    }
    let failed = settlement(DeliveryStatus::Failed, "the branch is gone");
    for id in ["b", "d"] {
        store.settle_delivery(&key(id), failed.clone()).await.expect("it is settled");
    }
    assert_eq!(listed(store, DeliveryFilter::default()).await, ["d", "c", "b", "a"]);
    let two = DeliveryFilter { limit: Some(2), ..DeliveryFilter::default() };
    assert_eq!(listed(store, two).await, ["d", "c"]);
    let of = |status| DeliveryFilter { status: Some(status), limit: None };
    assert_eq!(listed(store, of(DeliveryStatus::Failed)).await, ["d", "b"]);
    assert_eq!(listed(store, of(DeliveryStatus::Handled)).await, [""; 0]);
    assert_eq!(store.pending_deliveries().await.expect("deliveries"), [key("a"), key("c")]);
}

async fn what_came_of_a_delivery_is_kept(store: &dyn Store) {
    deliver(store, "a", 0).await;
    let before = found(store, "a").await;
    assert_eq!((before.event.as_str(), before.received_at), ("push", minutes(0)));
    assert_eq!(before.settlement, Settlement { runs: Vec::new(), ..settlement(DeliveryStatus::Pending, "") });
    for status in DeliveryStatus::ALL.into_iter().rev() {
        let wanted = settlement(status, "it's \"so\"\n— é");
        store.settle_delivery(&key("a"), wanted.clone()).await.expect("it is settled");
        assert_eq!(found(store, "a").await, Delivery { settlement: wanted, ..before.clone() });
    }
    assert_eq!(store.pending_deliveries().await.expect("deliveries"), [key("a")], "pending once more");
    let unknown = store.settle_delivery(&key("b"), settlement(DeliveryStatus::Handled, "")).await;
    assert!(matches!(unknown, Err(Error::NoDelivery(id)) if id == "b"));
}

async fn any_bytes_come_back(store: &dyn Store) {
    let bodies = [Vec::new(), (0..=255).collect::<Vec<u8>>(), vec![b'x'; 3_000_000]];
    for (n, body) in bodies.into_iter().enumerate() {
        let id = n.to_string();
        let new = NewDelivery { body: body.clone(), ..new_delivery(&id, 0) };
        store.deliver(new).await.expect("it is taken in");
        assert!(found(store, &id).await.body == Some(body));
    }
}

async fn old_bodies_go_and_deliveries_stay_known(store: &dyn Store) {
    for (minute, id) in ["settled", "pending", "young"].into_iter().enumerate() {
        deliver(store, id, minute as i64).await;
    }
    for id in ["settled", "young"] {
        store.settle_delivery(&key(id), settlement(DeliveryStatus::Ignored, "")).await.expect("settled");
    }
    store.drop_bodies(minutes(2)).await.expect("bodies are dropped");
    for (id, there) in [("settled", false), ("pending", true), ("young", true)] {
        assert_eq!(found(store, id).await.body.is_some(), there, "{id}");
        assert_eq!(deliver(store, id, 9).await, Receipt::Known);
    }
}

async fn schedules_are_marked(store: &dyn Store) {
    let (storefront, warehouse) = (name("storefront"), name("warehouse"));
    assert_eq!(store.schedule_mark(&storefront).await.expect("no mark"), None);
    for minute in [5, 3] {
        store.mark_schedule(&storefront, minutes(minute)).await.expect("a mark");
        assert_eq!(store.schedule_mark(&storefront).await.expect("a mark"), Some(minutes(minute)));
    }
    assert_eq!(store.schedule_mark(&warehouse).await.expect("no mark"), None);
}
