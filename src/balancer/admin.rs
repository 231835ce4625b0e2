//! The admin socket's side of the process: what is asked, done and answered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};

use super::handover;
use super::process::{Phase, Process};
use super::protocol::{Answer, Fault, Hello, Request};
use crate::cloud::Role;
use crate::ids::FleetId;
use crate::ipc::{Reader, Writer};

/// A watch is answered after this time at the latest, so that those of clients that are gone end.
const WATCH_LIMIT: Duration = Duration::from_secs(60);

/// Accepts clients until it is aborted.
pub(super) async fn accept(process: Arc<Process>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let process = process.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(process, stream).await {
                        tracing::debug!("an admin connection ended early: {error}");
                    }
                });
            }
            Err(error) => {
                tracing::error!("no admin connection can be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(process: Arc<Process>, stream: UnixStream) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let (mut reader, mut writer) = (Reader::new(reader), Writer::new(writer));
    let hello: Option<Hello> = understood(&mut writer, reader.next().await).await?;
    if hello.is_none() {
        return Ok(());
    }
    writer.send(&Hello::own()).await?;
    loop {
        // A client that finds the connection closed asks again, and reaches the newer process.
        let request = tokio::select! {
            () = process.left.cancelled() => return Ok(()),
            request = reader.next() => request,
        };
        let Some(request) = understood(&mut writer, request).await? else { return Ok(()) };
        if let Request::TakeOver = request {
            return handover::give(&process, reader, writer).await;
        }
        let answer = tokio::select! {
            () = process.left.cancelled() => return Ok(()),
            answer = answer(&process, request) => answer,
        };
        match answer {
            Some(answer) => writer.send(&answer).await?,
            None => {
                // The connection ends when the other process can be asked, or with this process, which
                // is when the next can start.
                process.left.cancelled().await;
                return Ok(());
            }
        }
    }
}

/// Says what was wrong with a line that is no message, and ends the conversation.
async fn understood<T>(
    writer: &mut Writer<OwnedWriteHalf>,
    line: io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    match line {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            writer.send(&Answer::refused(Fault::Failed, format!("this is no request: {error}"))).await?;
            Ok(None)
        }
        other => other,
    }
}

/// Carries out a request; `None` when another process must be asked.
async fn answer(process: &Arc<Process>, request: Request) -> Option<Answer> {
    match request {
        Request::Targets { fleet } => Some(match process.fleet(&fleet) {
            Some(fleet) => {
                let (targets, revision) = fleet.targets();
                // What is told survives. That it cannot be written is told to whoever makes changes.
                let _ = process.saver.settled().await;
                Answer::Targets { targets, revision }
            }
            None => Answer::Targets { targets: Vec::new(), revision: 0 },
        }),
        Request::Watch { fleet, seen, patience } => {
            let _ = tokio::time::timeout(patience.min(WATCH_LIMIT), change(process, &fleet, seen)).await;
            Some(Answer::Done)
        }
        Request::Stop => {
            process.end.cancel();
            Some(Answer::Done)
        }
        // Answered where the conversation is known.
        Request::TakeOver => None,
        change => {
            let phase = process.gate.lock().await;
            match *phase {
                Phase::Left => None,
                Phase::Serving => Some(make(process, change).await),
            }
        }
    }
}

/// Makes a change; it is answered when it is on disk.
async fn make(process: &Arc<Process>, change: Request) -> Answer {
    let done = match change {
        Request::PutListener { listener } => process.put_listener(listener),
        Request::RemoveListener { fleet } => {
            process.remove_listener(&fleet);
            Ok(())
        }
        Request::Register { fleet, targets } => match process.fleet(&fleet) {
            None => Err(Answer::refused(Fault::NotFound, format!("the listener of {fleet}"))),
            Some(fleet) => {
                for (id, address) in targets {
                    fleet.register(id, address, Role::Serving);
                }
                Ok(())
            }
        },
        Request::StandBy { fleet, targets } => match process.fleet(&fleet) {
            None => Err(Answer::refused(Fault::NotFound, format!("the listener of {fleet}"))),
            Some(fleet) => {
                for (id, address) in targets {
                    fleet.register(id, address, Role::Standby);
                }
                Ok(())
            }
        },
        Request::Switch { fleet, to } => match process.fleet(&fleet) {
            None => Err(Answer::refused(Fault::NotFound, format!("the listener of {fleet}"))),
            Some(fleet) => fleet.switch(&to).map_err(|why| Answer::refused(Fault::Conflict, why)),
        },
        Request::Deregister { fleet, targets } => {
            if let Some(fleet) = process.fleet(&fleet) {
                fleet.deregister(&targets);
            }
            Ok(())
        }
        Request::Forget { fleet, targets } => {
            if let Some(fleet) = process.fleet(&fleet) {
                fleet.forget(&targets);
            }
            Ok(())
        }
        Request::Targets { .. } | Request::Watch { .. } | Request::Stop | Request::TakeOver => Ok(()),
    };
    match done {
        Err(refused) => refused,
        Ok(()) => match process.saver.now().await {
            Ok(()) => Answer::Done,
            Err(why) => Answer::refused(Fault::Failed, why),
        },
    }
}

/// Returns when the fleet is not as it was at `seen`, or comes or goes.
async fn change(process: &Process, fleet: &FleetId, seen: Option<u64>) {
    match process.fleet(fleet) {
        Some(fleet) => {
            let mut revisions = fleet.revisions();
            let seen = seen.unwrap_or(*revisions.borrow());
            let _ = revisions.wait_for(|revision| *revision != seen).await;
        }
        None => {
            let mut counts = process.counts();
            let _ = counts.changed().await;
        }
    }
}
