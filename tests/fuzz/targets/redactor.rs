//! The redactor: no form of a secret comes through, nothing else is changed, and it does not matter how the
//! bytes come in pieces.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use windlass::log::{Redactor, SHORTEST};

use super::{parts, text};

pub const WORDS: &[&str] = &[
    "\0",
    "hunter2!",
    "correct horse battery",
    "line one\nline two",
    "***",
    "a\"b\\c/d",
    "it's so",
    "aaaaaaaa",
    "aaaa",
    "aXaXaXaX",
    "ä€😀secret",
    "-----BEGIN KEY-----\nMIIEvQIBADAN\n-----END KEY-----\n",
    "\n",
    " ",
    "=",
    "%20",
    "\\n",
    "0123456789abcdef0123456789abcdef0123456789abcdef",
];

const MASK: &[u8] = b"***";

/// Two secrets and some output, between NULs.
pub fn target(data: &[u8]) {
    let [one, other, output] = parts(data);
    // Longer ones only take longer.
    let secrets = [one, other].map(|secret| text(&secret[..secret.len().min(300)]));
    let mut whole = Vec::new();
    for secret in secrets {
        for form in forms(secret) {
            whole.extend_from_slice(output.get(..40).unwrap_or(output));
            whole.extend_from_slice(&form);
        }
    }
    whole.extend_from_slice(output);
    let expected = redact(&secrets, &whole, whole.len());
    let size = 1 + data.len() % 23;
    assert_eq!(redact(&secrets, &whole, size), expected, "in pieces of {size} bytes it comes out otherwise");

    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        // A mask beside other bytes can look like a secret that is made of stars itself.
        if !form.contains(&b'*') {
            let found = expected.windows(form.len()).any(|window| window == form);
            assert!(!found, "{:?} came through", String::from_utf8_lossy(&form));
        }
    }
    if !whole.contains(&b'*') {
        unchanged(&whole, &expected);
    }
    if secrets.iter().all(|secret| secret.len() < SHORTEST) {
        assert_eq!(expected, whole, "there was nothing to mask");
    }
}

fn redact(secrets: &[&str], bytes: &[u8], size: usize) -> Vec<u8> {
    let mut redactor = Redactor::new(secrets);
    let mut out = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        redactor.push(piece, &mut out);
    }
    redactor.finish(&mut out);
    out
}

/// How the secret turns up in output, made here a second time.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let json = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let mut forms = vec![
        secret.to_owned(),
        json(secret),
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        json(secret).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
        STANDARD.encode(secret),
        URL_SAFE.encode(secret),
    ];
    forms.extend(secret.lines().map(|line| line.trim().to_owned()));
    // In the middle of something else that is encoded: what the secret alone decides.
    for before in 1..=3 {
        for encoded in [
            STANDARD_NO_PAD.encode(format!("{}{secret}", &"xyz"[..before])),
            URL_SAFE_NO_PAD.encode(format!("{}{secret}", &"xyz"[..before])),
        ] {
            let whole = (before + secret.len()) * 8 / 6;
            forms.push(encoded[(before * 8).div_ceil(6)..whole].to_owned());
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.into_iter().map(String::into_bytes).collect()
}

/// Between masks the output is the input: each stretch is there, in this order, and nothing is added.
fn unchanged(whole: &[u8], out: &[u8]) {
    let mut rest = whole;
    let mut stretch = Vec::new();
    let mut stretches = Vec::new();
    let mut at = 0;
    while at < out.len() {
        if out[at..].starts_with(MASK) {
            stretches.push(std::mem::take(&mut stretch));
            at += MASK.len();
        } else {
            stretch.push(out[at]);
            at += 1;
        }
    }
    if stretches.is_empty() {
        assert_eq!(out, whole);
        return;
    }
    for (number, stretch) in stretches.iter().enumerate() {
        let found = match number {
            0 => rest.starts_with(stretch).then_some(0),
            _ => (0..=rest.len()).find(|at| rest[*at..].starts_with(stretch)),
        };
        let found = found.unwrap_or_else(|| panic!("{:?} was not said", String::from_utf8_lossy(stretch)));
        rest = &rest[found + stretch.len()..];
    }
    assert!(rest.ends_with(&stretch), "{:?} was not said at the end", String::from_utf8_lossy(&stretch));
}
