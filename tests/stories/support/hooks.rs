//! GitHub, as it posts webhooks.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// What GitHub and the server share.
pub const SECRET: &str = "what GitHub and we know";

/// The signature of a body, as the header has it.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// The body of a push to acme/shop's main.
pub fn push(after: &str) -> Vec<u8> {
    let payload = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": after, "deleted": false, "forced": false,
        "head_commit": { "id": after, "message": "Open the shop" },
        "repository": { "full_name": "acme/shop", "default_branch": "main" },
        "sender": { "login": "octocat" },
    });
    payload.to_string().into_bytes()
}

/// Posts a webhook with these header lines to `HOST:PORT`, and answers status and body.
///
/// # Errors
/// Nobody is there, or whoever is goes away without an answer.
pub fn post(address: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<(u16, Value)> {
    exchange(TcpStream::connect(address)?, address, headers, body)
}

fn exchange(
    mut stream: TcpStream,
    address: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<(u16, Value)> {
    let mut head = format!(
        "POST /webhooks/github HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    // Who refuses a large body does not read it to its end.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let no_answer = || io::Error::other(format!("no answer: {answer:?}"));
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(no_answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(no_answer)?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// Posts a push, signed, as the delivery `id`.
///
/// # Errors
/// See [`post`].
pub fn deliver(address: &str, id: &str, body: &[u8]) -> io::Result<(u16, Value)> {
    deliver_within(address, id, body, None)
}

/// The same, by somebody who hangs up when it is not answered in time.
///
/// # Errors
/// See [`post`]; and it was not answered in time.
pub fn deliver_within(
    address: &str,
    id: &str,
    body: &[u8],
    patience: Option<Duration>,
) -> io::Result<(u16, Value)> {
    let signature = sign(SECRET, body);
    let headers = [
        ("Content-Type", "application/json"),
        ("X-GitHub-Event", "push"),
        ("X-GitHub-Delivery", id),
        ("X-Hub-Signature-256", &signature),
    ];
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(patience)?;
    exchange(stream, address, &headers, body)
}
