//! The head of a request on its way through the balancer: nothing of the client's hop goes on, the target
//! knows where the message ends, and what a proxy in front said of the client stays.

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use windlass::balancer::headers::{end_hop, forwarded, is_ambiguous, to_target, upgrade};

pub const WORDS: &[&str] = &[
    "connection: ",
    "close",
    "upgrade",
    "keep-alive",
    "te: trailers",
    "transfer-encoding: chunked",
    "content-length: 5",
    "host: a.example",
    "x-forwarded-for: 192.0.2.7",
    "x-forwarded-proto: https",
    "expect: 100-continue",
    "proxy-authorization: x",
    "upgrade: websocket",
    ",",
    ", ",
    "\n",
    ": ",
    "X-Private",
    "content-length",
    "host",
    "x-forwarded-for",
    "te",
    "gzip",
    "\"",
    ";q=0",
];

/// The first byte has flags, the lines after it are fields.
pub fn target(data: &[u8]) {
    let (flags, lines) = data.split_first().unwrap_or((&0, &[]));
    let mut client = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(200) {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = HeaderName::from_bytes(line[..at].trim_ascii());
        let value = HeaderValue::from_bytes(line.get(at + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            client.append(name, value);
        }
    }
    let switch = upgrade(&client);
    assert!(switch.is_none() || client.contains_key(CONNECTION) && client.contains_key(UPGRADE));

    if is_ambiguous(&client) {
        return;
    }
    let mut headers = client.clone();
    let streamed = flags & 1 != 0;
    let authority = (flags & 2 != 0).then(|| "b.example:8080".parse().unwrap());
    to_target(&mut headers, authority.as_ref(), || "127.0.0.1:7432".to_owned(), streamed);
    assert_eq!(headers.get_all(HOST).iter().count(), 1);
    if authority.is_some() {
        assert_eq!(headers.get_all(HOST).iter().collect::<Vec<_>>(), ["b.example:8080"]);
    }
    let lengths = (headers.contains_key(CONTENT_LENGTH), headers.contains_key(TRANSFER_ENCODING));
    assert_ne!(lengths, (true, true), "two answers to where the message ends");
    assert!(!streamed || lengths != (false, false), "no answer to where the message ends");
    assert!(!headers.contains_key(CONNECTION) && !headers.contains_key(UPGRADE));
    assert!(!headers.contains_key("proxy-authorization") && !headers.contains_key("keep-alive"));
    assert!(
        headers.get_all(TE).iter().all(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers")),
        "{headers:?}"
    );

    let options =
        client.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for option in options.filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok()) {
        let ours = [HOST, TE, TRANSFER_ENCODING, CONTENT_LENGTH].contains(&option)
            || option.as_str().starts_with("x-forwarded-");
        assert!(ours || !headers.contains_key(&option), "{option} was meant for one hop");
    }

    forwarded(&mut headers, [192, 0, 2, 1].into());
    let all: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let chain = all.last().and_then(|last| last.to_str().ok()).unwrap_or_default();
    assert!(all.len() == 1 && chain.ends_with("192.0.2.1"), "{all:?} does not say who asks");
    for earlier in client.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()) {
        assert!(chain.contains(earlier), "{earlier:?} was taken back by the client: {chain:?}");
    }

    let mut answer = client.clone();
    end_hop(&mut answer);
    let mut again = answer.clone();
    end_hop(&mut again);
    assert_eq!(again, answer, "after the end of a hop there is no other");
    for name in answer.keys() {
        assert!(client.contains_key(name), "{name} came from nowhere");
    }
}
