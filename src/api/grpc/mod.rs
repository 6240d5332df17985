//! The services: each method reads its message, asks its use case and writes the answer. Nothing is decided here.
//!
//! REST comes through here too: the gateway speaks to these services in process, so the two wires cannot drift.

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
use tonic::{Response, Status, service::Routes};

use super::{
    proto::{
        calibration_service_server::CalibrationServiceServer, collection_service_server::CollectionServiceServer,
        decision_service_server::DecisionServiceServer, identity_service_server::IdentityServiceServer,
        model_service_server::ModelServiceServer, operation_service_server::OperationServiceServer,
        recognition_service_server::RecognitionServiceServer, review_service_server::ReviewServiceServer,
        template_service_server::TemplateServiceServer,
    },
    status::status,
};
use crate::matcher::{Fault, Matcher};

/// The services over one matcher, and the streams that they keep open.
#[derive(Debug, Clone)]
struct Services(Matcher, Streams);

/// The answer of a use case as gRPC says it.
fn answer<T>(answer: Result<T, Fault>) -> Result<Response<T>, Status> {
    answer.map(Response::new).map_err(|fault| status(&fault))
}

/// All services of the contract, without layers.
pub(super) fn services(matcher: &Matcher, message_bytes_max: usize, streams: &Streams) -> Router {
    let services = || Services(matcher.clone(), streams.clone());
    let limits = message_bytes_max;
    let mut routes = Routes::builder();
    routes
        .add_service(CollectionServiceServer::new(services()).max_decoding_message_size(limits))
        .add_service(CalibrationServiceServer::new(services()).max_decoding_message_size(limits))
        .add_service(IdentityServiceServer::new(services()).max_decoding_message_size(limits))
        .add_service(TemplateServiceServer::new(services()).max_decoding_message_size(limits))
        .add_service(RecognitionServiceServer::new(services()).max_decoding_message_size(limits))
        .add_service(DecisionServiceServer::new(services()).max_decoding_message_size(limits))
        .add_service(ReviewServiceServer::new(services()).max_decoding_message_size(limits))
        .add_service(OperationServiceServer::new(services()).max_decoding_message_size(limits))
        .add_service(ModelServiceServer::new(services()).max_decoding_message_size(limits));
    routes.routes().into_axum_router()
}
