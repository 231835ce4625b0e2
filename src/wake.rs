//! What the kernel wakes us for, so that nothing has to be polled: descriptors, and changes of files.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a pidfd, a pipe's read end or the like to be awaited. Fails when the kernel cannot
/// watch it; panics outside a tokio runtime.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor until it is dropped, and nothing
    // takes it out of the `AsyncFd`, which hands out its content mutably only to those who own it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Tells that something changed in a file or directory (inotify).
pub struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Watches `path` from now on for `what`. Fails when it is not there, or when this user has too
    /// many watches (128 unless the system says otherwise).
    pub fn new(path: &Path, what: WatchFlags) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&inotify, path, what)?;
        Ok(Self(readable(inotify)?))
    }

    /// Waits for a change since this was made, or since it last told of one.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
            let mut changed = false;
            let drained = ready.try_io(|inotify| {
                loop {
                    match rustix::io::read(inotify.get_ref(), &mut buffer) {
                        Ok(_) => changed = true,
                        Err(error) => return Err::<(), _>(error.into()),
                    }
                }
            });
            match drained {
                _ if changed => return Ok(()),
                Ok(Err(error)) => return Err(error),
                _ => {}
            }
        }
    }
}

/// Wakes at a time of the clock on the wall, also when that clock is set or the machine slept
/// meanwhile.
pub struct Alarm {
    /// Ready once the clock was set since it was made.
    set: io::Result<AsyncFd<OwnedFd>>,
}

impl Alarm {
    /// Notices from now on that the clock is set: to be made before the clock is read, so that it is not set
    /// unnoticed between that and the waiting.
    pub fn new() -> Self {
        Self { set: arm(FAR, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET) }
    }

    /// Waits until it is `at`, or until somebody has set the clock: whoever waits looks at the clock again.
    /// `None` waits for the clock to be set only.
    pub async fn at(self, at: Option<jiff::Timestamp>) {
        let due = at.map(|at| (at.as_second(), i64::from(at.subsec_nanosecond())));
        match (self.set, arm(due.unwrap_or(FAR), TimerfdTimerFlags::ABSTIME)) {
            // An error of the read says that the clock was set (ECANCELED, timerfd_create(2)).
            (Ok(set), Ok(due)) => {
                tokio::select! {
                    _ = set.readable() => {}
                    _ = due.readable() => {}
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "there are no timers; the clock is looked at every few seconds");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

/// A time that nobody waits for: the year 2500, in seconds.
const FAR: (i64, i64) = (16_725_225_600, 0);

/// Without timers the clock is looked at so often.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

fn arm((seconds, nanoseconds): (i64, i64), how: TimerfdTimerFlags) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Realtime, flags)?;
    let once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // All zeros would disarm it; the past is due at once.
    let at = Timespec { tv_sec: seconds.max(1), tv_nsec: nanoseconds.clamp(0, 999_999_999) };
    let when = Itimerspec { it_interval: once, it_value: at };
    rustix::time::timerfd_settime(&timer, how, &when)?;
    readable(timer)
}
