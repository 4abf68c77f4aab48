//! Answers over HTTP.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS},
};
use serde::Serialize;
use serde_json::json;

/// Whatever it is: no cache keeps it, no page shows it inside itself, and no link from it tells whom it was about.
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().extend([
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]);
    response
}

pub(super) fn json_of(value: &impl Serialize) -> Response<Bytes> {
    with_json(StatusCode::OK, value)
}

pub(super) fn error(status: StatusCode, why: &str) -> Response<Bytes> {
    with_json(status, &json!({"error": why}))
}

fn with_json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    // Structs of numbers and texts: they always encode.
    answer(status, "application/json", serde_json::to_vec(value).unwrap_or_default().into())
}

pub(super) fn not_allowed() -> Response<Bytes> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "this is for GET and POST");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    response
}
