use super::*;
use crate::store::conformance::{self, new_run};
use crate::store::memory::Memory;

fn script(faults: &'static [Option<Fault>]) -> impl FnMut(Call) -> Option<Fault> + Send + 'static {
    move |call| faults.get(call.number as usize - 1).copied().flatten()
}

async fn listed(store: &dyn Store) -> usize {
    store.runs(&RunFilter::default()).await.unwrap().len()
}

#[tokio::test]
async fn without_faults_it_is_the_store_itself() {
    let places: Mutex<std::collections::HashMap<String, Arc<Memory>>> = Mutex::default();
    conformance::exercise(async |place: &str| {
        let inner = places.lock().unwrap().entry(place.to_owned()).or_default().clone();
        Arc::new(Faulty::new(inner, |_| None)) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn faults_come_as_the_script_says() {
    let inner = Arc::new(Memory::new());
    let faults = &[
        Some(Fault::Fail),
        Some(Fault::Full),
        Some(Fault::LoseAnswer),
        None,
        Some(Fault::Repeat),
        Some(Fault::Delay { turns: 3 }),
    ];
    let store = Faulty::new(inner.clone(), script(faults));
    let create = async || store.create_run(new_run("storefront", 0)).await;

    assert!(matches!(create().await, Err(Error::Failed { .. })));
    assert!(matches!(create().await, Err(Error::Full { .. })));
    assert_eq!(listed(&*inner).await, 0);
    assert!(matches!(create().await, Err(Error::Failed { .. })));
    assert_eq!(listed(&*inner).await, 1, "only the answer is lost");
    assert_eq!(create().await.unwrap().number, 2);
    assert_eq!(create().await.unwrap().number, 4, "repeated");
    assert_eq!(create().await.unwrap().number, 5);
}

#[tokio::test]
async fn after_a_crash_nothing_is_answered() {
    for (answered, answers) in [(Answered::Yes, [true, true, false]), (Answered::No, [true, false, false])] {
        let inner: Arc<dyn Store> = Arc::new(Memory::new());
        let store = Faulty::crash_after(inner.clone(), 2, answered);
        for answer in answers {
            assert_eq!(store.create_run(new_run("storefront", 0)).await.is_ok(), answer);
        }
        assert!(store.crashed());
        assert!(store.fleets().await.is_err());
        assert_eq!(listed(&*inner).await, 2, "two were carried out");
    }
}

#[tokio::test]
async fn a_delayed_call_lets_others_go_first() {
    let store = Arc::new(Faulty::new(Arc::new(Memory::new()), script(&[Some(Fault::Delay { turns: 2 })])));
    let late = store.clone();
    let late = tokio::spawn(async move { late.create_run(new_run("storefront", 0)).await.unwrap() });
    tokio::task::yield_now().await;
    assert_eq!(store.create_run(new_run("storefront", 0)).await.unwrap().number, 1);
    assert_eq!(late.await.unwrap().number, 2);
}
