//! What GitHub sends, as Octokit's collection of examples has it, to a real server.

#[allow(dead_code, reason = "each of the programs that share it uses what it needs")]
#[path = "tools/mod.rs"]
mod tools;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use self::tools::{Answer, Server, tool};

const SECRET: &str = "correct horse battery staple";

/// A server that knows the webhook's secret.
fn server() -> Server {
    Server::start(
        "github: { webhook_secrets: [ { env: STORY_WEBHOOK_SECRET } ] }\n",
        &[("STORY_WEBHOOK_SECRET", SECRET)],
    )
}

/// As GitHub signs: <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.
fn signature(body: &[u8], secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

fn deliver(server: &Server, id: &str, event: &str, body: &[u8], signature: &str) -> Answer {
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "GitHub-Hookshot/0000000"),
        ("x-github-delivery", id),
        ("x-github-event", event),
        ("x-hub-signature-256", signature),
    ];
    server.ask("POST", "/webhooks/github", &headers, body)
}

fn deliveries(server: &Server) -> Vec<Value> {
    let text = server.windlass(&["deliveries", "--json", "--limit", "10000"]);
    let document: Value = serde_json::from_str(&text).unwrap();
    document["deliveries"].as_array().unwrap().clone()
}

#[test]
fn every_example_is_taken_in_and_none_breaks_the_server() {
    let examples = tool("npm").join("@octokit/webhooks-examples/api.github.com/index.json");
    let events: Value = serde_json::from_slice(&std::fs::read(examples).unwrap()).unwrap();
    let mut server = server();
    let mut sent = 0;
    for event in events.as_array().unwrap() {
        let name = event["name"].as_str().unwrap();
        for example in event["examples"].as_array().unwrap() {
            sent += 1;
            let body = serde_json::to_vec(example).unwrap();
            let answer = deliver(&server, &format!("example-{sent}"), name, &body, &signature(&body, SECRET));
            assert!((200..300).contains(&answer.status), "example {sent}, {name}: {answer:?}");
        }
    }
    assert_eq!(sent, 329, "the collection has other examples than when this was written");
    // They are handled after they were answered.
    let waits = || deliveries(&server).into_iter().find(|delivery| delivery["status"] == "pending");
    let began = std::time::Instant::now();
    while let Some(delivery) = waits() {
        assert!(began.elapsed().as_secs() < 60, "it is never handled: {delivery:#}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let all = deliveries(&server);
    assert_eq!(all.len(), 329);
    let unsaid = all.iter().find(|delivery| delivery["status"] == "ignored" && delivery["reason"].is_null());
    assert_eq!(unsaid, None, "why it starts nothing is not said");
    server.is_alive();
}

#[test]
fn a_delivery_that_comes_three_times_is_one() {
    let server = server();
    let body = br#"{"zen":"Keep it logically awesome.","hook_id":1}"#;
    for known in [false, true, true] {
        let answer = deliver(&server, "once", "ping", body, &signature(body, SECRET));
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &said["known"]), (202, &known.into()), "{answer:?}");
    }
    assert_eq!(deliveries(&server).len(), 1);
}

#[test]
fn what_is_not_signed_with_the_secret_is_refused_and_not_kept() {
    let server = server();
    let body = br#"{"zen":"Keep it logically awesome."}"#;
    let right = signature(body, SECRET);
    let altered = signature(b"another body", SECRET);
    for wrong in
        [&signature(body, "another secret"), &altered, &right.replace("sha256", "sha1"), "sha256=", ""]
    {
        assert_eq!(deliver(&server, "forged", "ping", body, wrong).status, 401, "{wrong}");
    }
    let unsigned = [("x-github-delivery", "forged"), ("x-github-event", "ping")];
    assert_eq!(server.ask("POST", "/webhooks/github", &unsigned, body).status, 401);
    assert!(deliveries(&server).is_empty());
}
