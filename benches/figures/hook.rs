//! Webhooks as GitHub sends them: a push, signed, each with its own delivery, commit and branch.

use std::io::Write as _;
use std::net::SocketAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What they are signed with.
pub const SECRET: &str = "It's a Secret to Everybody";

/// The repository that they are about, which no pipeline names.
const REPOSITORY: &str = "acme/storefront";

/// Branches that are pushed to: what is handled in its order is what comes of one branch.
const BRANCHES: u64 = 1_000;

/// All that differs from push to push stands at the end, so that signing one costs the sender no more than
/// that.
pub struct Hooks {
    head: String,
    begin: String,
    signing: Hmac<Sha256>,
    rest: usize,
    /// Tells the deliveries of one `Hooks` from those of another.
    series: u32,
}

impl Hooks {
    /// Webhooks with bodies of so many bytes, to `host`.
    pub fn new(host: SocketAddr, size: usize, series: u32) -> Self {
        let rest = tail(series, 0).len();
        let begin = begin(size - rest);
        let mut signing = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        signing.update(begin.as_bytes());
        let head = format!(
            "POST /webhooks/github HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\nuser-agent: GitHub-Hookshot/044aadd\r\n\
             content-type: application/json\r\nx-github-event: push\r\nx-github-hook-id: 292430182\r\n\
             x-github-hook-installation-target-id: 79929171\r\n\
             x-github-hook-installation-target-type: repository\r\ncontent-length: {size}\r\n"
        );
        Self { head, begin, signing, rest, series }
    }

    /// The bytes of a request.
    pub fn write(&self, number: u64, request: &mut Vec<u8>) {
        let tail = tail(self.series, number);
        assert_eq!(tail.len(), self.rest, "bodies of one length");
        let mut signing = self.signing.clone();
        signing.update(tail.as_bytes());
        let _ = write!(
            request,
            "{}x-github-delivery: {:08x}-0000-4000-8000-{number:012x}\r\nx-hub-signature-256: sha256=",
            self.head, self.series
        );
        for byte in signing.finalize().into_bytes() {
            let _ = write!(request, "{byte:02x}");
        }
        request.extend_from_slice(b"\r\n\r\n");
        request.extend_from_slice(self.begin.as_bytes());
        request.extend_from_slice(tail.as_bytes());
    }
}

/// The first so many bytes: the repository, who pushed, and as many commits as there is room for.
fn begin(size: usize) -> String {
    let mut text = format!(
        r#"{{"repository":{{"id":186853002,"name":"storefront","full_name":"{REPOSITORY}","private":true,"default_branch":"main","fork":false}},"pusher":{{"name":"octocat","email":"octocat@example.com"}},"sender":{{"login":"octocat","id":583231,"type":"User"}},"created":false,"deleted":false,"forced":false,"commits":["#
    );
    let end = |fill: &str| format!(r#"],"description":"{fill}","#);
    let mut number = 0_u64;
    loop {
        let more = commit(&format!("{number:040x}"), number);
        if text.len() + more.len() + 1 + end("").len() > size {
            break;
        }
        if number > 0 {
            text.push(',');
        }
        text.push_str(&more);
        number += 1;
    }
    let room = size.checked_sub(text.len() + end("").len()).expect("room for a webhook");
    text.push_str(&end(&"x".repeat(room)));
    text
}

/// The rest, of always the same length.
fn tail(series: u32, number: u64) -> String {
    let sha = format!("{series:08x}{number:032x}");
    let before = format!("{series:08x}{:032x}", number + 1);
    let branch = number % BRANCHES;
    format!(
        r#""head_commit":{{"id":"{sha}","message":"Count the visitors","timestamp":"2026-11-22T12:00:00+00:00","committer":{{"name":"Grace","username":"grace"}}}},"ref":"refs/heads/topic-{branch:04}","before":"{before}","after":"{sha}"}}"#
    )
}

fn commit(sha: &str, number: u64) -> String {
    format!(
        r#"{{"id":"{sha}","tree_id":"{sha}","distinct":true,"message":"Count the visitors\n\nThose of page {number} were \"forgotten\"","timestamp":"2026-11-22T12:00:00+00:00","url":"https://github.com/{REPOSITORY}/commit/{sha}","author":{{"name":"Grace","email":"grace@example.com","username":"grace"}},"committer":{{"name":"Grace","email":"grace@example.com","username":"grace"}},"added":[],"removed":["src/page-{number}/old.rs"],"modified":["src/page-{number}/visitors.rs","README.md"]}}"#
    )
}
