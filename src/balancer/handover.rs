//! A newer process takes the place of a running one without losing a connection.
//!
//! 1. The new process asks on the admin socket. The old one holds back changes, and sends copies of
//!    its lock, its admin socket and its listening sockets, then its state.
//! 2. The new process says that it has them. Until then the old one goes on as if nothing were.
//! 3. The old one stops accepting and choosing targets, and says what it has open; the new one
//!    accepts. Connections that came between wait in the sockets' queues.
//! 4. The old process finishes what it has open. A request that comes on one of its old connections
//!    is passed on to the new listener, and the answer says `connection: close`. Until its end it
//!    reports its open requests, which count at the new process like its own: a target is not
//!    drained before they are done.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::fleet::OpenRequests;
use super::process::{Estate, Heirloom, Keys, Phase, Process, StartError};
use super::protocol::{Hello, Request};
use super::saved::Saved;
use crate::ids::FleetId;
use crate::ipc::{self, Reader, Writer};

/// How long one side waits for the other's next word.
const PATIENCE: Duration = Duration::from_secs(10);

/// Descriptors in one message; the kernel takes 253 at most (SCM_MAX_FD, unix(7)).
const BATCH: usize = 64;

/// What the old process says after the descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    saved: serde_json::Value,
    /// Whose the listening sockets are, in their order.
    sockets: Vec<FleetId>,
}

/// The new process has everything and is ready to serve.
#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    taken: bool,
}

/// What both say afterwards.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// What the old process has open; its first word says that it has stepped back.
    Open(Vec<(FleetId, OpenRequests)>),
    /// The old process is to end now.
    Stop,
}

/// The old process's side: hands over, then reports until the new process is gone.
pub(super) async fn give(
    process: &Arc<Process>,
    mut reader: Reader<OwnedReadHalf>,
    mut writer: Writer<OwnedWriteHalf>,
) -> io::Result<()> {
    let mut phase = process.gate.lock().await;
    if *phase == Phase::Left {
        return Ok(());
    }
    let (descriptors, sockets) = process.descriptors()?;
    send_descriptors(reader.get_ref().as_ref(), &descriptors).await?;
    drop(descriptors);
    writer.send(&Handed { saved: serde_json::to_value(process.saved())?, sockets }).await?;
    match within(reader.next::<Taken>()).await? {
        Some(Taken { taken: true }) => {}
        _ => return Err(io::Error::other("the newer process changed its mind")),
    }
    *phase = Phase::Left;
    let open = process.leave().await;
    drop(phase);
    tracing::info!("process {} has handed over", std::process::id());
    let told = writer.send(&Word::Open(open)).await;
    process.left.cancel();
    told?;
    loop {
        tokio::select! {
            () = process.released.notified() => {
                let open = process.fleets().iter().map(|fleet| (fleet.id.clone(), fleet.open_requests())).collect();
                writer.send(&Word::Open(open)).await?;
            }
            word = reader.next::<Word>() => match word? {
                Some(Word::Stop) => process.end.cancel(),
                Some(Word::Open(_)) => {}
                None => return Ok(()),
            },
        }
    }
}

/// The process that was taken over from.
pub(super) struct Predecessor {
    pid: u32,
    reader: Reader<OwnedReadHalf>,
    writer: Writer<OwnedWriteHalf>,
}

/// The new process's side: takes over from the process that serves `data`. `None` when there is
/// none.
pub(super) async fn take(data: &Path) -> Result<Option<(Estate, Predecessor)>, StartError> {
    let stream = match ipc::connect(data, super::SOCKET).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(StartError::HandOver(error.to_string())),
    };
    let (reader, writer) = stream.into_split();
    let (mut reader, mut writer) = (Reader::new(reader), Writer::new(writer));
    let taken = async {
        writer.send(&Hello::own()).await?;
        let Some(hello) = within(reader.next::<Hello>()).await? else { return Ok(None) };
        writer.send(&Request::TakeOver).await?;
        let descriptors = match within(receive_descriptors(reader.get_ref().as_ref())).await {
            // It is ending, or another process has just taken over.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let handed = within(reader.next::<Handed>()).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut estate = inventory(descriptors, handed)?;
        writer.send(&Taken { taken: true }).await?;
        let Some(Word::Open(open)) = within(reader.next::<Word>()).await? else {
            return Err(io::Error::other("it did not step back"));
        };
        let mut open: BTreeMap<FleetId, OpenRequests> = open.into_iter().collect();
        for heirloom in &mut estate.fleets {
            let open = open.remove(&heirloom.saved.listener.fleet).unwrap_or_default();
            heirloom.elsewhere = Some((hello.pid, open));
        }
        Ok(Some((estate, hello.pid)))
    };
    match taken.await {
        Ok(Some((estate, pid))) => Ok(Some((estate, Predecessor { pid, reader, writer }))),
        Ok(None) => Ok(None),
        Err(error) => Err(StartError::HandOver(error.to_string())),
    }
}

/// Sorts what was handed over.
fn inventory(descriptors: Vec<OwnedFd>, handed: Handed) -> io::Result<Estate> {
    let saved = Saved::parse(handed.saved.to_string().as_bytes()).map_err(io::Error::other)?;
    let short = || io::Error::other("it sent too few sockets");
    let mut descriptors = descriptors.into_iter();
    let keys =
        Keys { lock: descriptors.next().ok_or_else(short)?, admin: descriptors.next().ok_or_else(short)? };
    let mut sockets = BTreeMap::new();
    for fleet in handed.sockets {
        sockets.insert(fleet, std::net::TcpListener::from(descriptors.next().ok_or_else(short)?));
    }
    let fleets = saved.fleets.into_iter().map(|saved| {
        let socket = sockets.remove(&saved.listener.fleet);
        Heirloom { saved, socket, elsewhere: None }
    });
    Ok(Estate { keys, fleets: fleets.collect() })
}

impl Predecessor {
    /// Takes note of what it still has open, until it ends.
    pub async fn follow(self, process: Arc<Process>) {
        let Self { pid, mut reader, mut writer } = self;
        let process_end = watch_end(pid);
        let mut told = false;
        loop {
            tokio::select! {
                word = reader.next::<Word>() => match word {
                    Ok(Some(Word::Open(open))) => {
                        let mut open: BTreeMap<FleetId, OpenRequests> = open.into_iter().collect();
                        for fleet in process.fleets() {
                            fleet.set_elsewhere(pid, Some(open.remove(&fleet.id).unwrap_or_default()));
                        }
                    }
                    Ok(Some(Word::Stop)) => {}
                    Ok(None) | Err(_) => break,
                },
                () = process.end.cancelled(), if !told => {
                    told = true;
                    let _ = writer.send(&Word::Stop).await;
                }
            }
        }
        for fleet in process.fleets() {
            fleet.set_elsewhere(pid, None);
        }
        tracing::info!("process {pid}, which was taken over from, is done");
        if told && let Ok(process_end) = process_end {
            ended(process_end, PATIENCE).await;
        }
    }
}

/// What tells of the end of a process, also when its number is used again.
pub(super) fn watch_end(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Returns at the end of a process, or after `patience`; whether it has ended.
pub(super) async fn ended(process: OwnedFd, patience: Duration) -> bool {
    let polled = tokio::task::spawn_blocking(move || {
        let patience = Timespec::try_from(patience).ok();
        poll(&mut [PollFd::new(&process, PollFlags::IN)], patience.as_ref())
    });
    matches!(polled.await, Ok(Ok(ready)) if ready > 0)
}

async fn within<T>(word: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, word).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Sends descriptors, each message with one byte: 1 when more follow, 0 for the last.
async fn send_descriptors(stream: &UnixStream, descriptors: &[OwnedFd]) -> io::Result<()> {
    let mut batches = descriptors.chunks(BATCH).peekable();
    while let Some(batch) = batches.next() {
        let more = [u8::from(batches.peek().is_some())];
        let borrowed: Vec<_> = batch.iter().map(AsFd::as_fd).collect();
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !beside.push(SendAncillaryMessage::ScmRights(&borrowed)) {
                return Err(io::Error::other("too many descriptors for one message"));
            }
            rustix::net::sendmsg(stream, &[IoSlice::new(&more)], &mut beside, SendFlags::NOSIGNAL)
                .map_err(io::Error::from)
        };
        stream.async_io(Interest::WRITABLE, send).await?;
    }
    Ok(())
}

async fn receive_descriptors(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    loop {
        let receive = || {
            let mut more = [0];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let message = rustix::net::recvmsg(
                stream,
                &mut [IoSliceMut::new(&mut more)],
                &mut beside,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let mut received = Vec::new();
            for beside in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = beside {
                    received.extend(rights);
                }
            }
            match message.bytes {
                0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                _ => Ok((more == [1], received)),
            }
        };
        let (more, received) = stream.async_io(Interest::READABLE, receive).await?;
        descriptors.extend(received);
        if !more {
            return Ok(descriptors);
        }
    }
}
