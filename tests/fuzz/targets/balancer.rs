//! What the balancer is told, and what it told itself: bytes become messages or an error, and a message is
//! written as it was read.

use windlass::balancer::protocol::{Answer, Hello, Request};
use windlass::balancer::saved::Saved;

use super::runner::conversation;

pub const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "\"ask\"",
    "\"answer\"",
    "\"put_listener\"",
    "\"register\"",
    "\"switch\"",
    "\"watch\"",
    "\"stop\"",
    "\"take_over\"",
    "\"targets\"",
    "\"refused\"",
    "\"protocol\":2",
    "\"build\"",
    "\"secs\"",
    "\"nanos\"",
    "4294967295",
    "18446744073709551615",
    "1000000000",
    "\"127.0.0.1:80\"",
    "\"[::1]:1\"",
    "\"2026-11-22T05:00:00Z\"",
    "\"since\"",
    "\"kind\"",
    "\"draining\"",
    "\n",
    "[[[[[[[[",
    "{\"a\":",
    "\"\\ud800\"",
    "\"format\":2",
];

pub fn messages(data: &[u8]) {
    conversation::<Hello>(data);
    conversation::<Request>(data);
    conversation::<Answer>(data);
}

pub fn state(data: &[u8]) {
    let Ok(saved) = Saved::parse(data) else { return };
    let text = serde_json::to_vec(&saved).expect("what was read can be written");
    let again = Saved::parse(&text).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).unwrap(), text);
}
