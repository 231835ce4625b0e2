//! What a server does that a foreground run does not: it drives every run, by one set of settings that
//! may change meanwhile, and tries again what cannot be driven.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::{Engine, Error, Shared, policy, settings};
use crate::config::Settings;
use crate::ids::{RunId, StreamId};
use crate::run::event::Origin;
use crate::run::lanes::Standing;
use crate::run::state::RunState;
use crate::store::RunFilter;

/// The pause before a run that cannot be driven is tried again, and the longest such pause. Settings
/// that were read again are tried at once.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// So many journals are read by one question.
const TOGETHER: usize = 128;

/// So many such questions are asked beside each other: as many as there are readers.
const AT_ONCE: usize = 4;

impl Engine {
    /// From now on every run is driven by these settings, whatever file it was started with: also runs
    /// under way, from their next turn on; those that wait take one at once. An attempt that has begun
    /// keeps the settings it began with, and the number of slots stays.
    pub fn use_settings(&self, settings: Arc<Settings>) {
        *self.0.settings.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(settings);
        self.0.lanes.wake_all();
        self.0.written.say_all();
        self.0.again.notify_one();
    }

    /// The settings that every run is driven by; `None` where each has its own.
    pub fn settings(&self) -> Option<Arc<Settings>> {
        self.0.settings()
    }

    /// Drives every run that has not ended, and tries those again that cannot be driven, until this is
    /// dropped. Calls `ready` when each was tried once.
    pub async fn take_up(&self, ready: impl FnOnce()) {
        self.0.drives_all.store(true, Ordering::Relaxed);
        let mut pause = PAUSE.0;
        while let Err(error) = self.drive_all().await {
            tracing::error!(%error, "the unfinished runs cannot be read; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        ready();
        pause = PAUSE.0;
        loop {
            let again = self.0.again.notified();
            let runs: Vec<RunId> = self.0.stuck().keys().cloned().collect();
            if runs.is_empty() {
                again.await;
                pause = PAUSE.0;
                continue;
            }
            let asked = tokio::time::timeout(pause, again).await.is_ok();
            pause = if asked { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
            for run in runs {
                self.try_to_drive(&run).await;
            }
        }
    }

    pub(super) async fn drive_all(&self) -> Result<(), Error> {
        let unfinished = RunFilter { unfinished: true, limit: Some(u32::MAX), ..RunFilter::default() };
        let mut runs: Vec<RunId> =
            self.store().runs(&unfinished).await?.into_iter().map(|row| row.run).collect();
        runs.sort();
        let load = |runs: &[RunId]| {
            let (engine, runs) = (self.clone(), runs.to_vec());
            async move {
                let loading = runs.clone();
                let loaded = tokio::spawn(async move { engine.load_each(&loading).await }).await;
                let loaded = loaded.unwrap_or_else(|_| runs.iter().map(|_| Err(Error::Gone)).collect());
                (runs, loaded)
            }
        };
        let mut loading = stream::iter(runs.chunks(TOGETHER)).map(load).buffered(AT_ONCE);
        let mut loaded = Vec::with_capacity(runs.len());
        while let Some((runs, states)) = loading.next().await {
            for (run, state) in runs.iter().zip(states) {
                match state {
                    Ok(state) => loaded.push(state),
                    Err(error) => self.0.is_stuck(run, &error),
                }
            }
        }
        // All are in their place before any looks whom it follows. The newest first, so that each is told
        // once that it has to give way.
        for (state, settings) in loaded.iter().rev() {
            let places = policy::places(settings, &state.id.pipeline);
            self.0.lanes.publish(&state.id, Standing::of(state, &places, &BTreeSet::new()));
        }
        let mut known = Vec::with_capacity(loaded.len());
        for (state, settings) in loaded {
            known.push((StreamId::Run(state.id.clone()), state.sequence));
            self.start(state, settings);
        }
        self.tell_news(known).await;
        Ok(())
    }

    /// Tells the drivers whose runs have gone on since they were read: by an act of a moment when nobody
    /// drove them. All are known by now, and whoever acts from here on tells them himself.
    async fn tell_news(&self, known: Vec<(StreamId, u64)>) {
        let gone_on = self.store().gone_on(&known).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "each run looks for itself whether it has gone on");
            known.into_iter().map(|(stream, _)| stream).collect()
        });
        for stream in gone_on {
            if let StreamId::Run(run) = stream
                && let Some(handle) = self.handle(&run)
            {
                handle.written.notify_one();
            }
        }
    }

    /// The runs, and what each is driven by.
    async fn load_each(&self, runs: &[RunId]) -> Vec<Result<(RunState, Arc<Settings>), Error>> {
        let streams: Vec<StreamId> = runs.iter().cloned().map(StreamId::Run).collect();
        let journals = self.store().read_each(&streams).await;
        let folded = runs.iter().zip(journals).map(|(run, journal)| {
            // A journal that makes the fold panic keeps no other from being taken up.
            let fold = || self.fold(run, &journal?);
            std::panic::catch_unwind(AssertUnwindSafe(fold)).unwrap_or(Err(Error::Gone))
        });
        folded.collect()
    }

    async fn try_to_drive(&self, run: &RunId) {
        match self.drive(run).await {
            Ok(_) => drop(self.0.stuck().remove(run)),
            Err(error) => self.0.is_stuck(run, &error),
        }
    }

    /// Why an unfinished run that nobody drives stands still, when this process ought to drive it.
    pub fn idle(&self, run: &RunId) -> Option<String> {
        let stuck = self.0.stuck().get(run).cloned();
        stuck.or_else(|| self.0.drives_all.load(Ordering::Relaxed).then(|| "about to be taken up".to_owned()))
    }
}

impl Shared {
    pub(super) fn settings(&self) -> Option<Arc<Settings>> {
        self.settings.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// What a run of this origin is driven by.
    pub(super) fn settings_of(&self, origin: &Origin) -> Result<Arc<Settings>, Error> {
        match self.settings() {
            Some(settings) => Ok(settings),
            None => settings(origin).map(Arc::new),
        }
    }

    /// Remembers why a run cannot be driven, to be tried again.
    pub(super) fn is_stuck(&self, run: &RunId, error: &Error) {
        if !self.drives_all.load(Ordering::Relaxed) {
            return;
        }
        let error = error.to_string();
        let why = error.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason is known").trim();
        let why = format!("cannot be driven, and is tried again: {why}");
        let before = self.stuck().insert(run.clone(), why.clone());
        if before.as_deref() != Some(&why) {
            tracing::error!(%run, "{why}");
            self.again.notify_one();
        }
    }

    pub(super) fn stuck(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<RunId, String>> {
        self.stuck.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
