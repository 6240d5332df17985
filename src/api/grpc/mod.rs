//! The services: each method reads its message, calls its use case and writes the answer. They decide nothing.
//!
//! REST calls these services in process, so the two wires cannot differ.

mod batch;
mod calibrations;
mod collections;
mod decisions;
mod identities;
mod models;
mod operations;
mod recognition;
mod review;
mod templates;

pub(super) use batch::Streams;

use axum::Router;
use tonic::{Request, Response, Status, codec::CompressionEncoding, service::Routes};

use super::{
    body_pool::BodyPool,
    proto::{
        calibration_service_server::CalibrationServiceServer, collection_service_server::CollectionServiceServer,
        decision_service_server::DecisionServiceServer, identity_service_server::IdentityServiceServer,
        model_service_server::ModelServiceServer, operation_service_server::OperationServiceServer,
        recognition_service_server::RecognitionServiceServer, review_service_server::ReviewServiceServer,
        template_service_server::TemplateServiceServer,
    },
    status::status,
    wire::{self, Idempotent},
};
use crate::matcher::{Context, Fault, IdempotentRequest, Matcher};

/// From this many bytes on, a request is hashed on the pool.
const LARGE_MESSAGE_BYTES: usize = 128 << 10;

/// The services over one matcher.
#[derive(Debug, Clone)]
pub(super) struct Services {
    pub(super) matcher: Matcher,
    /// The open streams of batches.
    pub(super) streams: Streams,
    pub(super) pool: BodyPool,
}

/// The result of a use case as a response of gRPC.
fn respond<T>(result: Result<T, Fault>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|fault| status(&fault))
}

impl Services {
    /// The context and the message of a request that takes effect at most once under its id.
    async fn once<T: Idempotent>(&self, request: Request<T>) -> Result<(Context, T), Fault> {
        let context = wire::context(&request);
        self.once_in(context, request.into_inner()).await
    }

    /// The same, for a message in a request of another type.
    async fn once_in<T: Idempotent>(&self, context: Context, mut message: T) -> Result<(Context, T), Fault> {
        let request_id = message.take_request_id();
        if request_id.is_empty() {
            return Ok((context, message));
        }
        wire::check_request_id(&request_id)?;
        let is_large = message.encoded_len() >= LARGE_MESSAGE_BYTES;
        let hash = move || (wire::body_hash(&message), message);
        let (body_hash, message) = if is_large { self.pool.run(hash).await? } else { hash() };
        let idempotent = Some(IdempotentRequest { method: T::METHOD, request_id, body_hash });
        Ok((Context { idempotent, ..context }, message))
    }

    /// All services of the contract, without layers.
    pub(super) fn into_router(self, message_bytes_max: usize) -> Router {
        let services = || self.clone();
        let mut routes = Routes::builder();
        // A call that asks for it gets its answer compressed.
        macro_rules! add {
            ($($server:ident),* $(,)?) => {$(
                routes.add_service(
                    $server::new(services())
                        .max_decoding_message_size(message_bytes_max)
                        .send_compressed(CompressionEncoding::Zstd)
                        .send_compressed(CompressionEncoding::Gzip),
                );
            )*};
        }
        add!(
            CollectionServiceServer,
            CalibrationServiceServer,
            IdentityServiceServer,
            TemplateServiceServer,
            RecognitionServiceServer,
            DecisionServiceServer,
            ReviewServiceServer,
            OperationServiceServer,
            ModelServiceServer,
        );
        routes.routes().into_axum_router()
    }
}
