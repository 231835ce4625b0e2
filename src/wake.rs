//! What the kernel wakes us for, so that nothing has to be polled: descriptors, and changes of files.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
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
