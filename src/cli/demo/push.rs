//! The push webhook of the demo, as GitHub sends it: the same fields, headers and signature. GitHub's
//! documentation: "Webhook events and payloads", push; "Validating webhook deliveries".

use std::net::SocketAddr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::cli::Error;
use crate::run::event::Commit;
use crate::secret::Secret;

/// The repository that the webhook speaks of.
pub const REPOSITORY: &str = "acme/storefront";

/// A push of one commit to `main`.
pub struct Push {
    /// `X-GitHub-Delivery`: the same one is the same push, however often it is sent.
    pub delivery: String,
    body: String,
}

impl Push {
    /// Of `after`, on top of `before`; the first one makes the branch.
    pub fn new(before: Option<&Commit>, after: &Commit) -> Self {
        let body = payload(before, after).to_string();
        // Unique enough for one demo, and in the form that GitHub's have.
        let digest = crate::ids::Digest::of(body.as_bytes()).to_string();
        let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
        let delivery =
            format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32));
        Self { delivery, body }
    }

    /// Sends it to the server at `address`, signed with `secret`; returns when the server has it.
    pub async fn send(&self, address: SocketAddr, secret: &Secret) -> Result<(), Error> {
        let request = Request::post("/webhooks/github")
            .header(HOST, address.to_string())
            .header(USER_AGENT, "GitHub-Hookshot/demo")
            .header(CONTENT_TYPE, "application/json")
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", &self.delivery)
            .header("X-Hub-Signature-256", signature(secret.expose(), self.body.as_bytes())?)
            .body(Full::new(Bytes::from(self.body.clone())))
            .map_err(Error::world)?;
        let stream = tokio::net::TcpStream::connect(address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Error::world)?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(Error::world)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(Error::world(format!("the server answered the demo's webhook with {status}"))),
        }
    }
}

fn signature(secret: &str, body: &[u8]) -> Result<String, Error> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(Error::world)?;
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    Ok(format!("sha256={}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

fn payload(before: Option<&Commit>, after: &Commit) -> Value {
    let zeros = "0".repeat(after.sha.as_str().len());
    let (name, email) = after.author.trim_end_matches('>').split_once(" <").unwrap_or((&after.author, ""));
    let person = json!({ "name": name, "email": email, "username": "octocat" });
    let commit = json!({
        "id": after.sha,
        "distinct": true,
        "message": after.message,
        "url": format!("https://github.com/{REPOSITORY}/commit/{}", after.sha),
        "author": person,
        "committer": person,
        "added": [],
        "removed": [],
        "modified": [],
    });
    json!({
        "ref": "refs/heads/main",
        "before": before.map_or(zeros, |before| before.sha.to_string()),
        "after": after.sha,
        "created": before.is_none(),
        "deleted": false,
        "forced": false,
        "base_ref": null,
        "repository": {
            "name": "storefront",
            "full_name": REPOSITORY,
            "private": false,
            "owner": { "name": "acme", "login": "acme" },
            "html_url": format!("https://github.com/{REPOSITORY}"),
            "default_branch": "main",
        },
        "pusher": { "name": "octocat", "email": email },
        "sender": { "login": "octocat", "type": "User" },
        "commits": [commit],
        "head_commit": commit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_github_s() {
        // The example of GitHub's "Validating webhook deliveries".
        let signed = signature("It's a Secret to Everybody", b"Hello, World!").unwrap();
        assert_eq!(signed, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    }

    #[test]
    fn the_same_push_is_the_same_delivery() {
        let commit = |sha: &str| Commit {
            sha: sha.repeat(20).parse().unwrap(),
            branch: "main".to_owned(),
            author: "Octo Cat <octocat@example.com>".to_owned(),
            message: "Open the shop".to_owned(),
        };
        let (one, two) = (commit("1a"), commit("2b"));
        assert_eq!(Push::new(None, &one).delivery, Push::new(None, &one).delivery);
        assert_ne!(Push::new(None, &one).delivery, Push::new(Some(&one), &two).delivery);
        assert_eq!(Push::new(None, &one).delivery.len(), 36);
        assert_eq!(payload(None, &one)["before"], "0".repeat(40));
    }
}
