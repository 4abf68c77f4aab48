//! The stream error after which a client comes back over HTTP/1.1.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use h2::Reason;
use http_body::Frame;

/// Makes hyper end the stream with `HTTP_1_1_REQUIRED` (RFC 9113 section 7) in place of this answer.
///
/// hyper resets a stream with the reason that it finds among the sources of its body's error. It polls the body before it
/// writes the head, and h2 drops what is queued for a stream that is reset; where another thread writes between the two,
/// the client is sent this answer first.
pub(crate) fn http_1_1_required(answer: Response<()>) -> Response {
    answer.map(|()| Body::new(Reset))
}

/// A body that fails at once.
struct Reset;

impl http_body::Body for Reset {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Poll::Ready(Some(Err(Reason::HTTP_1_1_REQUIRED.into())))
    }
}
