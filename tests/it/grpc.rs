//! gRPC as a backend service sees it: health, reflection, deadlines, and errors with details.

use semblance::api::proto::{
    CreateCollectionRequest, GetIdentityRequest, ListCollectionsRequest,
    collection_service_client::CollectionServiceClient, identity_service_client::IdentityServiceClient,
};
use tokio_stream::StreamExt;
use tonic::{Code, codec::CompressionEncoding};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt;

use crate::support::{Database, Home, Server, Start};

#[tokio::test]
async fn health_and_reflection_answer() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    let mut health = HealthClient::new(server.channel().await);
    let status = health.check(HealthCheckRequest::default()).await.expect("healthy").into_inner().status();
    assert_eq!(status, ServingStatus::Serving);

    let service = "semblance.v1.RecognitionService".to_owned();
    let status = health.check(HealthCheckRequest { service }).await.expect("healthy").into_inner().status();
    assert_eq!(status, ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([ask])).await.expect("answered").into_inner();
    let answer = answers.next().await.expect("one").expect("well").message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = services.service.iter().map(|s| s.name.as_str()).collect();
    for service in [
        "CollectionService",
        "IdentityService",
        "TemplateService",
        "RecognitionService",
        "CalibrationService",
        "DecisionService",
        "ReviewService",
        "ModelService",
        "OperationService",
    ] {
        assert!(names.contains(&format!("semblance.v1.{service}").as_str()), "{names:?}");
    }
}

#[tokio::test]
async fn reflection_knows_the_details_of_errors() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    for symbol in ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"] {
        let request = Some(MessageRequest::FileContainingSymbol(symbol.to_owned()));
        let ask = ServerReflectionRequest { host: String::new(), message_request: request };
        let answers = reflection.server_reflection_info(tokio_stream::iter([ask])).await.expect("answered");
        let answer = answers.into_inner().next().await.expect("one").expect("well").message_response;
        assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{symbol}: {answer:?}");
    }
}

#[tokio::test]
async fn clients_with_compression_are_answered_compressed_and_bombs_are_refused() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let client = CollectionServiceClient::new(server.channel().await);
        let mut client = client.send_compressed(encoding).accept_compressed(encoding);
        let answered = client.list_collections(ListCollectionsRequest::default()).await.expect("answered");
        assert!(answered.metadata().contains_key("grpc-encoding"), "{encoding:?}: {:?}", answered.metadata());
        let bomb = CreateCollectionRequest { collection_id: "a".repeat(33 << 20), ..Default::default() };
        let refused = client.create_collection(bomb).await.expect_err("33 MiB in a few kilobytes");
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        assert!(refused.message().contains("decompressed"), "{refused}");
        assert_eq!(
            client.list_collections(ListCollectionsRequest::default()).await.expect("still").into_inner(),
            answered.into_inner()
        );
    }
    // A client without compression is answered plain, although its library could read gzip.
    let mut plain = CollectionServiceClient::new(server.channel().await).accept_compressed(CompressionEncoding::Gzip);
    let answered = plain.list_collections(ListCollectionsRequest::default()).await.expect("answered");
    assert!(!answered.metadata().contains_key("grpc-encoding"), "{:?}", answered.metadata());
}

#[tokio::test]
async fn errors_carry_a_code_a_reason_and_a_sentence() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    let mut collections = CollectionServiceClient::new(server.channel().await);
    let make = || CreateCollectionRequest { collection_id: "staff".into(), ..Default::default() };
    let made = collections.create_collection(make()).await.expect("made").into_inner();
    assert_eq!(made.name, "collections/staff");
    let again = collections.create_collection(make()).await.expect_err("there already");
    assert_eq!(again.code(), Code::AlreadyExists);
    assert_eq!(again.get_details_error_info().expect("details").reason, "ALREADY_EXISTS");
    // The same request under one id answers the same.
    let once = CreateCollectionRequest { collection_id: "once".into(), request_id: "r1".into(), ..Default::default() };
    let first = collections.create_collection(once.clone()).await.expect("made").into_inner();
    assert_eq!(collections.create_collection(once).await.expect("the same").into_inner().uid, first.uid);

    let mut identities = IdentityServiceClient::new(server.channel().await);
    let none = identities.get_identity(GetIdentityRequest { name: "collections/staff/identities/x".into() }).await;
    let none = none.expect_err("nobody");
    assert_eq!((none.code(), none.message()), (Code::NotFound, "there is no identity x in this collection"));

    let listed = collections.list_collections(ListCollectionsRequest { page_size: 1, ..Default::default() }).await;
    let listed = listed.expect("listed").into_inner();
    assert_eq!((listed.collections[0].name.as_str(), listed.next_page_token.is_empty()), ("collections/once", false));
}
