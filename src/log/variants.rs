//! The forms in which a secret turns up in output.

use std::collections::BTreeSet;

/// What is shorter, in bytes, is not masked, be it a secret, a line of one, or a form of one: three
/// characters turn up everywhere, and a log that is shredded hides nothing and helps nobody. Whoever
/// reads secrets from settings says so to their author.
pub use crate::secret::SHORTEST;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Columns at which encoders break long base64: PEM and openssl (RFC 7468), MIME and coreutils
/// (RFC 2045).
const COLUMNS: [usize; 2] = [64, 76];

/// All forms of `secret`, itself among them: as it is; each of its lines; escaped for JSON, for HTML, for a
/// URL and by a shell that traces; in base64 of both alphabets at each alignment.
pub(super) fn of(secret: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    for part in std::iter::once(secret).chain([secret.trim()]).chain(secret.lines().map(str::trim)) {
        if part.len() < SHORTEST {
            continue;
        }
        forms.insert(part.as_bytes().to_vec());
        // What has nothing to escape is the same everywhere, and keys are long.
        if !part.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            forms.extend(json(part));
            forms.extend(url(part));
        }
        if part.contains(['&', '<', '>', '"', '\'']) {
            forms.extend(html(part));
            forms.insert(part.replace('\'', r"'\''").into_bytes());
        }
    }
    if secret.len() >= SHORTEST {
        for alphabet in [STANDARD, URL_SAFE] {
            forms.extend(base64_forms(secret.as_bytes(), alphabet));
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// Inside a JSON string: as most write it; in ASCII only, as Python does; with what HTML would take for its
/// own by number, as Go does, and .NET in capitals.
fn json(text: &str) -> Vec<Vec<u8>> {
    let Ok(quoted) = serde_json::to_string(text) else { return Vec::new() };
    let inner = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    let by_number = |text: &str, which: fn(char) -> bool, upper: bool| {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            let mut units = [0; 2];
            match which(c) {
                false => out.push(c),
                true if upper => {
                    c.encode_utf16(&mut units).iter().for_each(|u| out.push_str(&format!("\\u{u:04X}")))
                }
                true => c.encode_utf16(&mut units).iter().for_each(|u| out.push_str(&format!("\\u{u:04x}"))),
            }
        }
        out.into_bytes()
    };
    let net = |c: char| !c.is_ascii() || matches!(c, '"' | '&' | '\'' | '+' | '<' | '>' | '`');
    // There the mark in front of a quote is part of what is escaped.
    let bare = inner.replace("\\\"", "\"");
    vec![
        inner.replace('/', "\\/").into_bytes(),
        inner.as_bytes().to_vec(),
        by_number(inner, |c| !c.is_ascii(), false),
        by_number(inner, |c| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'), false),
        by_number(&bare, net, true),
    ]
}

/// In a text and in an attribute of HTML or XML; the apostrophe as the one and the other write it.
fn html(text: &str) -> Vec<Vec<u8>> {
    let plain = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted = plain.replace('"', "&quot;");
    let apostrophes = ["&#39;", "&#x27;", "&apos;"].map(|written| quoted.replace('\'', written).into_bytes());
    apostrophes.into_iter().chain([plain.into_bytes(), quoted.into_bytes()]).collect()
}

/// Percent-encoded: RFC 3986's unreserved characters kept, those that JavaScript's `encodeURIComponent` keeps,
/// those of forms (URL standard, section 5.2), or letters and digits only; a space as `%20` or, in forms, as `+`; digits in either case.
fn url(text: &str) -> Vec<Vec<u8>> {
    let encode = |kept: &[u8], digits: &[u8; 16], space: &[u8]| {
        let mut out = Vec::with_capacity(text.len() * 3);
        for byte in text.bytes() {
            match byte {
                b' ' => out.extend_from_slice(space),
                _ if byte.is_ascii_alphanumeric() || kept.contains(&byte) => out.push(byte),
                _ => {
                    out.push(b'%');
                    out.extend(
                        [byte >> 4, byte & 15].iter().filter_map(|digit| digits.get(usize::from(*digit))),
                    );
                }
            }
        }
        out
    };
    let spaces: &[&[u8]] = if text.contains(' ') { &[b"%20", b"+"] } else { &[b"%20"] };
    let mut forms = Vec::new();
    for kept in [&b"-._~"[..], b"-._~!'()*", b"-._~/", b"*-._", b""] {
        for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            forms.extend(spaces.iter().map(|space| encode(kept, digits, space)));
        }
    }
    forms
}

/// The characters of base64 that `secret` alone decides, when 0, 1 or 2 bytes (modulo 3) stand
/// before it; the whole encoding of it alone, and the lines of that when it is broken.
fn base64_forms(secret: &[u8], alphabet: &[u8; 64]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let mut padded = vec![0; before];
        padded.extend_from_slice(secret);
        let encoded = base64(&padded, alphabet);
        // A character holds 6 bits: those that begin inside the bytes before are not ours, nor is
        // the last one when it ends beyond the secret.
        let first = (before * 8).div_ceil(6);
        let end = padded.len() * 8 / 6;
        forms.extend(encoded.get(first..end).map(<[u8]>::to_vec));
    }
    let mut alone = base64(secret, alphabet);
    for columns in COLUMNS {
        if alone.len() > columns {
            forms.extend(alone.chunks(columns).map(<[u8]>::to_vec));
        }
    }
    alone.resize(alone.len().next_multiple_of(4), b'=');
    forms.push(alone);
    forms
}

/// Base64 without padding (RFC 4648).
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..=chunk.len() {
            let index = group >> (18 - 6 * position) & 63;
            out.extend(alphabet.get(index as usize));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(secret: &str, form: &str) -> bool {
        of(secret).contains(form.as_bytes())
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors = [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes(), STANDARD), encoded.as_bytes());
        }
        assert_eq!(base64(&[0xfb, 0xff], URL_SAFE), b"-_8");
    }

    #[test]
    fn base64_is_found_at_each_alignment() {
        let secret = "correct horse";
        for before in ["", "x", "xy", "xyz"] {
            for after in ["", "1", "12"] {
                let whole = base64(format!("{before}{secret}{after}").as_bytes(), STANDARD);
                let whole = String::from_utf8(whole).unwrap();
                let found = of(secret)
                    .iter()
                    .any(|form| form.len() >= 15 && whole.contains(std::str::from_utf8(form).unwrap()));
                assert!(found, "{before:?} {after:?} {whole}");
            }
        }
    }

    #[test]
    fn escaped_forms() {
        assert!(has("a\"b\\c/d", r#"a\"b\\c/d"#));
        assert!(has("\"quoted\"", r#"\"quoted\""#));
        assert!(has("a/b c&d", "a%2Fb%20c%26d"));
        assert!(has("a/b c&d", "a%2fb+c%26d"));
        assert!(has("pässe", r"p\u00e4sse"));
        assert!(has("it's so", r"it'\''s so"));
        assert!(has("a~b c-d", "a%7Eb+c-d") && has("a~b c-d", "a%7Eb%20c%2Dd"));
        assert!(has("a<b&c\"d", r#"a\u003cb\u0026c\"d"#) && has("a<b+c\"d", r"a\u003Cb\u002Bc\u0022d"));
        assert!(has("a<b&'c\"", "a&lt;b&amp;&#39;c&quot;") && has("a<b&'c\"", "a&lt;b&amp;'c\""));
    }

    #[test]
    fn each_line_of_a_secret_that_is_long_enough() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADAN\n  ab\n-----END KEY-----\n";
        assert!(has(key, "MIIEvQIBADAN") && has(key, key) && has(key, key.trim()));
        assert!(!has(key, "ab"));
        assert!(of("abc").is_empty() && of("").is_empty());
    }
}
