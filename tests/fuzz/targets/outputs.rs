//! What steps hand on: each output is a name that can be written in an expression, and a value that an
//! environment variable can have.

use windlass::stage::outputs::read;

use super::{assert_plain, text};

pub const WORDS: &[&str] = &[
    "=",
    "==",
    "\n",
    "\r\n",
    "\r",
    "key",
    "a-b_c",
    "image=img-1",
    " ",
    "\0",
    "=\n",
    "\u{2028}",
    "$(id)",
    "`",
    "ä=",
];

pub fn target(data: &[u8]) {
    let text = text(data);
    match read(text) {
        Err(wrong) => assert_plain("the refusal", &wrong.to_string()),
        Ok(outputs) => {
            for (name, value) in &outputs {
                assert!(
                    !name.is_empty()
                        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                );
                assert!(!value.contains(['\n', '\0']));
                assert!(text.contains(&format!("{name}={value}")));
            }
            let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
            assert!(outputs.len() <= lines && (lines == 0) == outputs.is_empty());
        }
    }
}
