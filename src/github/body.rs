//! The JSON in a body, for both content types that a webhook can be set up with.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Why there is no JSON in a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error(
        "the content type is {0:?}, and a webhook's is application/json or application/x-www-form-urlencoded"
    )]
    Kind(String),
    #[error("the form has no field `payload`")]
    NoPayload,
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
}

/// What is JSON in a body with this content type. Without a content type it is taken for
/// `application/json`. Whether it is JSON, [`super::told`] finds out.
pub fn json<'a>(content_type: Option<&str>, body: &'a [u8]) -> Result<Cow<'a, [u8]>, BodyError> {
    let kind = content_type.unwrap_or("application/json");
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(Cow::Borrowed(body)),
        "application/x-www-form-urlencoded" => Ok(Cow::Owned(payload(body).ok_or(BodyError::NoPayload)?)),
        _ => Err(BodyError::Kind(kind.chars().take(100).collect())),
    }
}

/// The field `payload` of a form (URL standard, section 5.1).
fn payload(form: &[u8]) -> Option<Vec<u8>> {
    let field = form.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"payload="))?;
    let spaced: Vec<u8> = field.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Some(percent_decode(&spaced).collect())
}
