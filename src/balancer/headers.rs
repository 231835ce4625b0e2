//! The header fields that a proxy changes on their way through.

use std::net::IpAddr;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::http::uri::Authority;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that are meant for the next hop only, besides those that `Connection` names; RFC 9110,
/// 7.6.1.
const HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that say where a message goes, how long it is and who sent it: no `Connection` of a client takes
/// them out, or what a proxy in front said of the client could be taken back by the client itself.
const END_TO_END: [HeaderName; 5] = [HOST, CONTENT_LENGTH, FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST];

/// Whether two programs could take it for requests to two hosts; RFC 9112, 3.2, wants it refused.
pub fn is_ambiguous(headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().nth(1).is_some()
}

/// The protocol that a message asks to switch to, if it does.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = members(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case(b"upgrade"));
    if asked { headers.get(UPGRADE).cloned() } else { None }
}

/// The members of a field that is a list, whatever bytes they have; RFC 9110, 5.6.1.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).into_iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Takes out what was meant for this hop only. `TE: trailers` stays: trailers are passed on.
pub fn end_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = members(headers, &CONNECTION)
            .filter_map(|word| HeaderName::from_bytes(word).ok())
            .filter(|name| *name != TE && !END_TO_END.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        let trailers = members(headers, &TE).any(|word| word.eq_ignore_ascii_case(b"trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Makes a client's request head one for a target: nothing of the client's hop, `Host` as the client
/// said it; `own` is where it was reached. `streamed` says that a body of unknown length follows.
pub fn to_target(
    headers: &mut HeaderMap,
    authority: Option<&Authority>,
    own: impl FnOnce() -> String,
    streamed: bool,
) {
    end_hop(headers);
    // The continuation was answered here, as soon as the body was asked for.
    headers.remove(EXPECT);
    // An absolute target overrules `Host`; RFC 9112, 3.2.2. HTTP/1.0 may come without either.
    if let Some(value) = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        headers.insert(HOST, value);
    } else if !headers.contains_key(HOST)
        && let Ok(value) = HeaderValue::from_str(&own())
    {
        headers.insert(HOST, value);
    }
    if streamed && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Says for whom the request is forwarded. What a proxy before us said stays: only programs of this
/// machine reach the listener, and the one that ends TLS knows better than we do.
pub fn forwarded(headers: &mut HeaderMap, client: IpAddr) {
    let earlier: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let chain = match earlier.is_empty() {
        true => client.to_string(),
        false => format!("{}, {client}", earlier.join(", ")),
    };
    if let Ok(value) = HeaderValue::from_str(&chain) {
        headers.insert(FORWARDED_FOR, value);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[test]
    fn what_was_meant_for_one_hop_ends_here() {
        let mut headers = map(&[
            ("connection", "close, X-Private"),
            ("connection", "TE"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "text/html"),
        ]);
        end_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("accept", "text/html")]));
    }

    #[test]
    fn the_host_is_kept_and_a_missing_one_is_given() {
        let mut headers = map(&[("host", "shop.example"), ("expect", "100-continue")]);
        to_target(&mut headers, None, || "127.0.0.1:7432".to_owned(), false);
        assert_eq!(headers, map(&[("host", "shop.example")]));
        let mut headers = HeaderMap::new();
        to_target(&mut headers, None, || "127.0.0.1:7432".to_owned(), true);
        assert_eq!(headers, map(&[("host", "127.0.0.1:7432"), ("transfer-encoding", "chunked")]));
    }

    #[test]
    fn the_chain_of_clients_grows_and_an_earlier_proxy_is_believed() {
        let mut headers = map(&[
            ("host", "shop.example"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
        ]);
        forwarded(&mut headers, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(text(&headers, "x-forwarded-for"), Some("192.0.2.7, 127.0.0.1"));
        assert_eq!(text(&headers, "x-forwarded-proto"), Some("https"));
        assert_eq!(text(&headers, "x-forwarded-host"), Some("shop.example"));
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        assert_eq!(upgrade(&map(&[("upgrade", "websocket")])), None);
        let asked = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade(&asked), Some(HeaderValue::from_static("websocket")));
    }
}
