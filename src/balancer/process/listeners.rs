//! The listening sockets of the fleets: made, changed, ended, copied for a newer process.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Heirloom, Process};
use crate::balancer::fleet::Fleet;
use crate::balancer::lock;
use crate::balancer::protocol::{Answer, Fault};
use crate::balancer::proxy::{self, Site};
use crate::balancer::workers::Worker;
use crate::cloud::Listener;
use crate::ids::FleetId;

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// What accepting pauses for when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// A fleet and how it is reached.
pub(super) struct Entry {
    pub fleet: Arc<Fleet>,
    pub closing: CancellationToken,
    /// `None` when the port was taken by another program while no balancer ran.
    pub door: Option<Door>,
}

/// A listening socket and the tasks that accept from it, one of each worker.
pub(super) struct Door {
    socket: std::net::TcpListener,
    port: u16,
    _accepting: Vec<AbortOnDropHandle<()>>,
}

pub(super) fn bind(port: u16) -> io::Result<std::net::TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections of an earlier process may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    socket.listen(BACKLOG)?.into_std()
}

impl Process {
    pub(super) fn restore(&self, heirloom: Heirloom) {
        let Heirloom { saved, socket, elsewhere } = heirloom;
        let fleet = self.new_fleet(saved.listener);
        // Before the first connection is taken.
        fleet.restore(saved.targets, elsewhere);
        let closing = self.closing.child_token();
        let door = socket.and_then(|socket| match self.open_door(&fleet, &closing, socket) {
            Ok(door) => Some(door),
            Err(error) => {
                tracing::error!("the listening socket of {}: {error}", fleet.id);
                None
            }
        });
        let mut fleets = lock(&self.fleets);
        fleets.insert(fleet.id.clone(), Entry { fleet, closing, door });
        self.count.send_replace(fleets.len());
    }

    fn new_fleet(&self, listener: Listener) -> Arc<Fleet> {
        Fleet::new(listener, self.seed, self.released.clone(), self.saver.clone())
    }

    fn open_door(
        &self,
        fleet: &Arc<Fleet>,
        closing: &CancellationToken,
        socket: std::net::TcpListener,
    ) -> io::Result<Door> {
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let site = Arc::new(Site { fleet: fleet.clone(), open: self.open.clone(), closing: closing.clone() });
        let accepting = |worker: &Arc<Worker>| {
            let _there = worker.handle.enter();
            let socket = TcpListener::from_std(socket.try_clone()?)?;
            let accepting = accept(site.clone(), socket, worker.clone(), self.workers.all().clone());
            Ok(AbortOnDropHandle::new(tokio::spawn(accepting)))
        };
        let accepting = self.workers.all().iter().map(accepting).collect::<io::Result<_>>()?;
        Ok(Door { socket, port, _accepting: accepting })
    }

    pub fn fleet(&self, id: &FleetId) -> Option<Arc<Fleet>> {
        lock(&self.fleets).get(id).map(|entry| entry.fleet.clone())
    }

    pub fn fleets(&self) -> Vec<Arc<Fleet>> {
        lock(&self.fleets).values().map(|entry| entry.fleet.clone()).collect()
    }

    /// Makes or changes a listener. The caller holds the gate.
    pub fn put_listener(&self, listener: Listener) -> Result<(), Answer> {
        let (id, port) = (listener.fleet.clone(), listener.port);
        let mut fleets = lock(&self.fleets);
        let taken = fleets
            .values()
            .find(|other| other.fleet.id != id && other.door.as_ref().is_some_and(|door| door.port == port));
        if let Some(other) = taken {
            let other = &other.fleet.id;
            return Err(Answer::refused(
                Fault::Conflict,
                format!(
                    "port {port} of {id} is already in use for {other}; give one of them another port in windlass.yaml"
                ),
            ));
        }
        let entry = fleets.entry(id.clone()).or_insert_with(|| Entry {
            fleet: self.new_fleet(listener.clone()),
            closing: self.closing.child_token(),
            door: None,
        });
        let door = match &entry.door {
            Some(door) if door.port == port => Ok(None),
            _ => match port {
                0 => Err(io::Error::other("it has no number")),
                _ => bind(port)
                    .and_then(|socket| self.open_door(&entry.fleet, &entry.closing, socket))
                    .map(Some),
            },
        };
        let outcome = match door {
            Ok(door) => {
                entry.fleet.set_listener(listener);
                entry.door = door.or(entry.door.take());
                Ok(())
            }
            Err(error) => {
                // A listener that was there before stays as it was.
                if entry.door.is_none() && entry.fleet.targets().0.is_empty() {
                    fleets.remove(&id);
                }
                Err(port_problem(&id, port, &error))
            }
        };
        self.count.send_replace(fleets.len());
        outcome
    }

    /// Ends a listener. The caller holds the gate.
    pub fn remove_listener(&self, id: &FleetId) {
        let mut fleets = lock(&self.fleets);
        if let Some(entry) = fleets.remove(id) {
            entry.fleet.remove();
            entry.closing.cancel();
        }
        self.count.send_replace(fleets.len());
    }

    /// Copies of everything that a newer process needs, in the order of the names.
    pub fn descriptors(&self) -> io::Result<(Vec<OwnedFd>, Vec<FleetId>)> {
        let mut descriptors = Vec::new();
        if let Some(keys) = &*lock(&self.keys) {
            descriptors.push(keys.lock.try_clone()?);
            descriptors.push(keys.admin.try_clone()?);
        }
        let mut names = Vec::new();
        for (id, entry) in &*lock(&self.fleets) {
            if let Some(door) = &entry.door {
                descriptors.push(door.socket.as_fd().try_clone_to_owned()?);
                names.push(id.clone());
            }
        }
        Ok((descriptors, names))
    }
}

fn port_problem(fleet: &FleetId, port: u16, error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::AddrInUse => Answer::refused(
            Fault::Conflict,
            format!(
                "port {port} of {fleet} is already in use by another program; `ss -ltnp sport = :{port}` shows which. \
                 End it, or give the fleet another port in windlass.yaml"
            ),
        ),
        _ => Answer::refused(Fault::Failed, format!("port {port} of {fleet} cannot be listened on: {error}")),
    }
}

/// Accepts connections until it is aborted. `worker` does that, for itself and all others.
async fn accept(site: Arc<Site>, socket: TcpListener, worker: Arc<Worker>, all: Arc<[Arc<Worker>]>) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let (site, taken) = (site.clone(), worker.share(&all));
                let open = site.open.clone();
                if taken.by().number == worker.number {
                    open.spawn(proxy::serve(site, stream, peer.ip(), taken));
                    continue;
                }
                // Its new worker's runtime is to wait for it.
                let Ok(stream) = stream.into_std() else { continue };
                let handle = taken.by().handle.clone();
                let serve = async move {
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        proxy::serve(site, stream, peer.ip(), taken).await;
                    }
                };
                open.spawn_on(serve, &handle);
            }
            // The client was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::error!("{}: no connection can be accepted: {error}", site.fleet.id);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
