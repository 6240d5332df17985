//! A call of the gRPC services in process, with a message that is encoded already.

use axum::{Router, body::Body, extract::Request};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{HeaderValue, Method, Version, header, uri::PathAndQuery};
use http_body_util::BodyExt;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::segments::Segments;
use crate::{
    api::{
        layers::Wire,
        status::{self, status},
    },
    matcher::{Fault, Principal},
};

/// The bytes before each message of gRPC: a flag for compression, and the message's length in four bytes.
const FRAME_HEAD_BYTES: usize = 5;
/// The service copies the message into one buffer; after this many bytes it lets other tasks run.
const BYTES_AT_ONCE: usize = 256 << 10;

/// What one call sends.
pub(super) struct Call {
    /// `/package.Service/Method`
    pub(super) path: PathAndQuery,
    pub(super) message: Segments,
    pub(super) principal: Option<Principal>,
    /// The header `grpc-timeout`.
    pub(super) timeout: Option<HeaderValue>,
}

impl Call {
    /// Sends one message and returns the first of the answer, encoded.
    ///
    /// # Errors
    /// The status that the service answers.
    pub(super) async fn send(self, services: Router) -> Result<Bytes, Status> {
        let Ok(response) = services.oneshot(self.into_request()?).await;
        let (head, body) = response.into_parts();
        check(Status::from_header_map(&head.headers))?;
        let body = body.collect().await.map_err(|error| status(&Fault::internal(error)))?;
        check(body.trailers().and_then(Status::from_header_map))?;
        let mut message = body.to_bytes();
        if message.len() < FRAME_HEAD_BYTES {
            return Err(status(&Fault::internal("the service ended without a message")));
        }
        message.advance(FRAME_HEAD_BYTES);
        Ok(message)
    }

    fn into_request(self) -> Result<Request, Status> {
        let Self { path, message, principal, timeout } = self;
        let too_long = |_| status::WireFault::BodyTooLarge.status("the body is larger than a message may be");
        let length = u32::try_from(message.len()).map_err(too_long)?;
        let mut head = BytesMut::with_capacity(FRAME_HEAD_BYTES);
        head.put_u8(0);
        head.put_u32(length);
        let mut framed = Segments::default();
        framed.push(head.freeze());
        framed.append(message);

        let mut request = Request::new(paced(framed));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.into();
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(timeout) = timeout {
            headers.insert("grpc-timeout", timeout);
        }
        request.extensions_mut().insert(Wire::Rest);
        if let Some(principal) = principal {
            request.extensions_mut().insert(principal);
        }
        Ok(request)
    }
}

/// A body that lets other tasks run between its pieces.
fn paced(segments: Segments) -> Body {
    let mut pieces = Vec::new();
    for mut segment in segments.into_list() {
        while segment.len() > BYTES_AT_ONCE {
            pieces.push(segment.split_to(BYTES_AT_ONCE));
        }
        pieces.push(segment);
    }
    let pieces = stream::iter(pieces).enumerate().then(async |(number, piece)| {
        if number > 0 {
            tokio::task::yield_now().await;
        }
        Ok::<Bytes, Status>(piece)
    });
    Body::from_stream(pieces)
}

fn check(answered: Option<Status>) -> Result<(), Status> {
    match answered {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}
