//! Ports for instances.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use rustix::net::{AddressFamily, SocketType};

/// Below the range that Linux takes the near ends of outgoing connections from (32768–60999, see
/// ip(7)): a connection of anybody must not sit on an instance's port when it starts to listen.
const RANGE: Range<u16> = 20000..32000;

/// A port that nobody uses and that is not `taken`; `None` when there is none. The search starts
/// anywhere, so that two data directories on one machine rarely look at the same port.
pub(in crate::cloud) fn free(taken: &BTreeSet<u16>) -> Option<u16> {
    let length = RANGE.end - RANGE.start;
    let start = (RandomState::new().hash_one(()) % u64::from(length)) as u16;
    let ports = (0..length).map(|offset| RANGE.start + (start + offset) % length);
    ports.filter(|port| !taken.contains(port)).find(|port| is_free(*port))
}

/// Whether a service could listen there, whichever address it takes and whatever options it sets:
/// this binds (and never listens) on all addresses, without `SO_REUSEADDR`, so that a port in
/// TIME_WAIT counts as used.
fn is_free(port: u16) -> bool {
    let bind = || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
    };
    bind().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_given_out() {
        let port = free(&BTreeSet::new()).unwrap();
        assert!(RANGE.contains(&port));
        let all_others: BTreeSet<u16> = RANGE.filter(|other| *other != port).collect();
        assert_eq!(free(&all_others), Some(port));
        let _taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(free(&all_others), None);
    }
}
