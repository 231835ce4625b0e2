//! Follows a log while it grows, also when another process writes it.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;

use futures_util::Stream;
use rustix::fs::inotify::WatchFlags;
use tokio_util::bytes::Bytes;

use crate::wake::Watch;

/// Most bytes that come at once.
const CHUNK: usize = 64 * 1024;

/// The log at `path` from byte `from` on: first what is there, then what is written, as it is
/// written. Waits for a log that is not there yet. Ends when `until` is done (the step has ended)
/// and everything is read; or with an error, after which nothing comes.
///
/// Woken by the kernel (inotify), so it costs nothing while the log is quiet. A process has a
/// limited number of these (128 unless the system says otherwise); past it this fails.
pub fn follow(
    path: PathBuf,
    from: u64,
    until: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    let tail = Tail { path, at: from, until: Some(Box::pin(until)), file: None, watch: None };
    Box::pin(futures_util::stream::unfold(Some(tail), async |tail| {
        let mut tail = tail?;
        match tail.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(tail))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

struct Tail {
    path: PathBuf,
    at: u64,
    /// `None` once it is done.
    until: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    file: Option<File>,
    watch: Option<Watch>,
}

impl Tail {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            // Whatever is written after this look wakes the watch that was set before it; whatever
            // was written before the end was told is seen by the look after it.
            if self.file.is_none() {
                self.file = self.find()?;
            }
            let ended = self.until.is_none();
            if let Some(bytes) = self.read()? {
                return Ok(Some(bytes));
            }
            let Some(until) = self.until.as_mut().filter(|_| !ended) else { return Ok(None) };
            match &self.watch {
                Some(watch) => tokio::select! {
                    changed = watch.changed() => changed?,
                    () = until => self.until = None,
                },
                None => {
                    until.await;
                    self.until = None;
                }
            }
        }
    }

    /// Opens the log and watches it; as long as it is not there, watches the nearest directory
    /// above that is.
    fn find(&mut self) -> io::Result<Option<File>> {
        loop {
            match File::open(&self.path) {
                Ok(file) => {
                    self.watch = Some(Watch::new(&self.path, WatchFlags::MODIFY)?);
                    return Ok(Some(file));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) => {}
            }
            let Some(above) = self.path.ancestors().skip(1).find(|above| above.is_dir()) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let below = self.path.strip_prefix(above).ok().and_then(|rest| rest.iter().next());
            let awaited = above.join(below.unwrap_or_default());
            match Watch::new(above, WatchFlags::CREATE | WatchFlags::MOVED_TO) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            // What came between the look and the watch woke nobody.
            if !awaited.exists() {
                return Ok(None);
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<Bytes>> {
        let Some(file) = &self.file else { return Ok(None) };
        let mut buffer = vec![0; CHUNK];
        let count = file.read_at(&mut buffer, self.at)?;
        if count == 0 {
            return Ok(None);
        }
        buffer.truncate(count);
        self.at += count as u64;
        Ok(Some(buffer.into()))
    }
}
