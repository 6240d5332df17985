//! A gRPC client, for commands that use a running server.

mod sample;

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;

use super::{
    proto::{
        self, collection_service_client::CollectionServiceClient, enroll_outcome,
        identity_service_client::IdentityServiceClient, model_service_client::ModelServiceClient,
    },
    wire::CollectionName,
};
use crate::matcher::DeclaredSpace;
use domain::{CollectionId, ErrorChain, IdentityId, Labels, Sample};

/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The interval of HTTP/2 pings.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// The largest answer to a batch.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The page size of the list of models: more than any server loads.
const MODELS_MAX: i32 = 1000;
/// The most batches that wait for HTTP/2 flow control.
const OUTGOING_MAX: usize = 1;

/// Errors between this program and a server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is not the URL of a server; use http://HOST:PORT with its gRPC port, or https:// behind a proxy")]
    BadAddress(String),
    #[error("the API key has characters that are not allowed in a header")]
    BadKey,
    /// No connection, or a lost one.
    #[error("the server at {server} does not answer: {problem}")]
    Unreachable { server: String, problem: String },
    #[error("the server refuses: {0}")]
    Refused(String),
}

impl ClientError {
    /// Whether a retry may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A client of one server. Clones share its connection, which is opened again after a loss.
#[derive(Debug, Clone)]
pub struct Client {
    server: String,
    channel: Channel,
    key: Option<MetadataValue<Ascii>>,
}

/// One enrollment of a batch.
#[derive(Debug, Clone)]
pub struct EnrollmentRow {
    /// A retry under the same id takes effect once.
    pub request_id: String,
    pub identity: IdentityId,
    pub labels: Labels,
    pub sample: Sample,
}

/// The result of one enrollment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// Durable, by this request or by an earlier one with the same id.
    Enrolled,
    Refused {
        code: String,
        detail: String,
    },
    /// Refused for now; the wait before a retry.
    Later(Duration),
}

impl Client {
    /// Connects. `https` verifies the certificate against the public authorities.
    ///
    /// # Errors
    /// [`ClientError::BadAddress`], [`ClientError::BadKey`], [`ClientError::Unreachable`].
    pub async fn connect(server: &str, key: Option<&str>) -> Result<Self, ClientError> {
        let bad = || ClientError::BadAddress(server.to_owned());
        let is_http = ["http://", "https://"].iter().any(|scheme| server.starts_with(scheme));
        let endpoint = is_http.then(|| Endpoint::from_shared(server.to_owned()).ok()).flatten().ok_or_else(bad)?;
        let mut endpoint = endpoint
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_while_idle(true);
        if server.starts_with("https://") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_webpki_roots()).map_err(|_| bad())?;
        }
        let bearer = |key: &str| format!("Bearer {key}").parse().map_err(|_| ClientError::BadKey);
        let key = key.map(bearer).transpose()?;
        let unreachable =
            |error| ClientError::Unreachable { server: server.to_owned(), problem: ErrorChain(&error).to_string() };
        Ok(Self { server: server.to_owned(), channel: endpoint.connect().await.map_err(unreachable)?, key })
    }

    /// Creates the collection if it does not exist, and declares an external space in it.
    pub async fn declare(&self, collection: &CollectionId, space: &DeclaredSpace) -> Result<(), ClientError> {
        let mut client = CollectionServiceClient::new(self.channel.clone());
        let declared = proto::Collection {
            name: CollectionName(collection.clone()).to_string(),
            spaces: vec![proto::EmbeddingSpace {
                model: space.name.to_string(),
                modality: sample::modality(space.modality),
                dimension: i32::try_from(space.dimension).unwrap_or(i32::MAX),
                external: true,
                ..proto::EmbeddingSpace::default()
            }],
            ..proto::Collection::default()
        };
        let create = proto::CreateCollectionRequest {
            collection_id: collection.to_string(),
            collection: Some(declared.clone()),
            ..proto::CreateCollectionRequest::default()
        };
        match client.create_collection(self.request(create)).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => return Err(self.fault(&status)),
        }
        let update = proto::UpdateCollectionRequest {
            collection: Some(declared),
            update_mask: Some(prost_types::FieldMask { paths: vec!["spaces".to_owned()] }),
        };
        client.update_collection(self.request(update)).await.map_err(|status| self.fault(&status))?;
        Ok(())
    }

    /// The digests of the embedding spaces of the server's models and of the collection, by name.
    pub async fn spaces(&self, collection: &CollectionId) -> Result<BTreeMap<String, String>, ClientError> {
        let mut client = ModelServiceClient::new(self.channel.clone());
        let list = proto::ListModelsRequest { page_size: MODELS_MAX, ..proto::ListModelsRequest::default() };
        let models = client.list_models(self.request(list)).await.map_err(|status| self.fault(&status))?;
        let of_server = models.into_inner().models.into_iter();
        let of_server =
            of_server.map(|model| (model.name.trim_start_matches("models/").to_owned(), model.digest.clone()));
        let mut spaces: BTreeMap<String, String> = of_server.collect();
        let get = proto::GetCollectionRequest { name: CollectionName(collection.clone()).to_string() };
        let mut client = CollectionServiceClient::new(self.channel.clone());
        let shown = client.get_collection(self.request(get)).await.map_err(|status| self.fault(&status))?;
        spaces.extend(shown.into_inner().spaces.into_iter().map(|space| (space.model, space.digest)));
        Ok(spaces)
    }

    /// Opens a stream of batches to a collection.
    pub async fn open_stream(&self, collection: &CollectionId) -> Result<BatchStream, ClientError> {
        let parent = CollectionName(collection.clone());
        let (outgoing, batches) = mpsc::channel(OUTGOING_MAX);
        let mut client = IdentityServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let answers = client.batch_enroll(self.request(ReceiverStream::new(batches))).await;
        let answers = answers.map_err(|status| self.fault(&status))?.into_inner();
        Ok(BatchStream { client: self.clone(), parent, outgoing, answers })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        request
    }

    fn fault(&self, status: &Status) -> ClientError {
        let transient = [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Cancelled];
        // A broken connection has no error details of the server.
        let is_lost =
            matches!(status.code(), Code::Unknown | Code::Internal) && status.get_details_error_info().is_none();
        if is_lost || transient.contains(&status.code()) {
            return ClientError::Unreachable { server: self.server.clone(), problem: ErrorChain(status).to_string() };
        }
        ClientError::Refused(status.message().to_owned())
    }
}

/// A stream of batches. The server answers each, in order; a few may be in flight.
#[derive(Debug)]
pub struct BatchStream {
    client: Client,
    parent: CollectionName,
    outgoing: mpsc::Sender<proto::BatchEnrollRequest>,
    answers: Streaming<proto::BatchEnrollResponse>,
}

impl BatchStream {
    pub async fn send(&mut self, batch: &[EnrollmentRow]) -> Result<(), ClientError> {
        let requests = batch.iter().map(|row| proto::EnrollRequest {
            name: self.parent.identity(&row.identity).to_string(),
            samples: vec![sample::to_wire(&row.sample)],
            labels: row.labels.clone().into(),
            request_id: row.request_id.clone(),
            ..proto::EnrollRequest::default()
        });
        let batch = proto::BatchEnrollRequest { parent: self.parent.to_string(), requests: requests.collect() };
        // The channel is closed: the stream has ended, and its last answer has the reason.
        match self.outgoing.send(batch).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.end_reason().await),
        }
    }

    /// The answer to the oldest unanswered batch.
    pub async fn receive(&mut self) -> Result<Vec<RowOutcome>, ClientError> {
        match self.answers.next().await {
            Some(Ok(answer)) => Ok(answer.outcomes.into_iter().map(outcome).collect()),
            Some(Err(status)) => Err(self.client.fault(&status)),
            None => Err(self.lost()),
        }
    }

    async fn end_reason(&mut self) -> ClientError {
        loop {
            match self.answers.next().await {
                Some(Ok(_)) => {}
                Some(Err(status)) => return self.client.fault(&status),
                None => return self.lost(),
            }
        }
    }

    fn lost(&self) -> ClientError {
        ClientError::Unreachable { server: self.client.server.clone(), problem: "the stream ended".to_owned() }
    }
}

fn outcome(outcome: proto::EnrollOutcome) -> RowOutcome {
    match outcome.outcome {
        Some(enroll_outcome::Outcome::Enrolled(_)) => RowOutcome::Enrolled,
        Some(enroll_outcome::Outcome::Refusal(refusal)) => {
            let proto::Refusal { code, detail, grpc_code, retry_after_seconds, .. } = refusal;
            let later = retry_after_seconds.and_then(|wait| Duration::try_from_secs_f64(wait).ok());
            let too_late = (Code::from(grpc_code) == Code::DeadlineExceeded).then_some(Duration::ZERO);
            later.or(too_late).map_or(RowOutcome::Refused { code, detail }, RowOutcome::Later)
        }
        None => RowOutcome::Refused { code: "INTERNAL".to_owned(), detail: "the server gave no reason".to_owned() },
    }
}
