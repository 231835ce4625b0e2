//! Ports for instances.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType};

/// Far above the ports that people choose for fleets' listeners, most of which a balancer opens later.
/// Below the range that Linux takes the near ends of outgoing connections from (32768–60999, see
/// ip(7)): a connection of anybody must not sit on an instance's port when it starts to listen.
const RANGE: Range<u16> = 26000..32000;

/// What the balancer keeps in the data directory, in its own format.
const LISTENERS: &str = "balancer.json";

/// The ports of the fleets' listeners, which their balancer may open at any time. What cannot be read
/// is the balancer's to complain about.
pub(super) fn of_listeners(data: &Path) -> Vec<u16> {
    let text = std::fs::read(data.join(LISTENERS)).unwrap_or_default();
    let saved: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let fleets = saved.get("fleets").and_then(|fleets| fleets.as_array());
    let port = |fleet: &serde_json::Value| fleet.get("listener")?.get("port")?.as_u64()?.try_into().ok();
    fleets.into_iter().flatten().filter_map(port).collect()
}

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
    fn the_ports_of_listeners_are_known() {
        let data = tempfile::tempdir().unwrap();
        assert!(of_listeners(data.path()).is_empty());
        // As the balancer writes it.
        let saved = r#"{"format":1,"fleets":[{"listener":{"fleet":"a-b","port":26001},"targets":[]},
            {"listener":{"fleet":"c-d","port":7432},"targets":[]}]}"#;
        std::fs::write(data.path().join(LISTENERS), saved).unwrap();
        assert_eq!(of_listeners(data.path()), [26001, 7432]);
        std::fs::write(data.path().join(LISTENERS), "{").unwrap();
        assert!(of_listeners(data.path()).is_empty());
    }

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
