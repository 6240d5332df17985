//! Compressed messages of gRPC. Each is decompressed here, within the limit of a message and the memory of its request.
//!
//! tonic could decompress too, but what a message grows to would come from no budget, and a zstd frame could ask for a
//! window of 128 MiB.

use std::io::{self, Read};

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use tonic::{Code, Status};

use super::{
    body_pool::BodyPool,
    metered_body::RequestMemory,
    status::{WireFault, status},
};
use crate::matcher::Fault;

/// The header that names the compression of a request's messages.
pub(super) const ENCODING: &str = "grpc-encoding";
/// The header that names the compressions of answers that the client reads.
pub(super) const ACCEPTED_ENCODINGS: &str = "grpc-accept-encoding";
/// The bytes before each message: a flag for compression, and the length in four bytes.
const HEAD_BYTES: usize = 5;
/// From this many compressed bytes on, a message is decompressed on the pool.
const LARGE_BYTES: usize = 8 << 10;
/// Bytes that are decompressed at once.
const PIECE_BYTES: usize = 64 << 10;
/// The largest window of zstd, as its power of two: 8 MiB, which RFC 8878 asks every decoder to support.
const WINDOW_LOG_MAX: u32 = 23;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// The compression of a request's messages.
    ///
    /// # Errors
    /// UNIMPLEMENTED for a compression that the server does not read, as the gRPC specification asks.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        match headers.get(ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(None),
            Some(b"gzip") => Ok(Some(Self::Gzip)),
            Some(b"zstd") => Ok(Some(Self::Zstd)),
            Some(_) => {
                let mut refused =
                    Status::new(Code::Unimplemented, "this server reads gzip and zstd, and no other compression");
                refused
                    .metadata_mut()
                    .insert(ACCEPTED_ENCODINGS, tonic::metadata::MetadataValue::from_static("gzip,zstd"));
                Err(refused)
            }
        }
    }
}

/// What the messages of one request may take.
pub(super) struct Decompressor {
    pub(super) compression: Compression,
    pub(super) memory: RequestMemory,
    pub(super) pool: BodyPool,
    /// The largest message, decompressed.
    pub(super) bytes_max: usize,
}

impl Decompressor {
    /// The body with its messages decompressed.
    pub(super) fn body(self, body: Body) -> Body {
        let messages = Messages { body, arrived: BytesMut::new(), decompressor: self };
        Body::from_stream(stream::try_unfold(messages, Messages::next))
    }

    /// A message with its head, decompressed. Its compressed bytes give their memory back.
    async fn plain(&self, framed: Bytes) -> Result<Bytes, Status> {
        if framed.first() != Some(&1) {
            return Ok(framed);
        }
        let (compression, bytes_max, memory) = (self.compression, self.bytes_max, self.memory.clone());
        let compressed = framed.len();
        let work = move || decompress(compression, &framed[HEAD_BYTES..], bytes_max, &memory);
        let is_large = compressed >= LARGE_BYTES;
        let plain = if is_large { self.pool.run(work).await.map_err(|fault| status(&fault))? } else { work() };
        self.memory.give_back_body(compressed);
        plain
    }
}

/// The messages of a body as they arrive.
struct Messages {
    body: Body,
    arrived: BytesMut,
    decompressor: Decompressor,
}

impl Messages {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Status> {
        loop {
            if let Some(framed) = self.arrived_message()? {
                let plain = self.decompressor.plain(framed).await?;
                return Ok(Some((plain, self)));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.arrived.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(Status::from_error(error.into())),
                None if self.arrived.is_empty() => return Ok(None),
                // A message that breaks off; tonic says so.
                None => {
                    let rest = self.arrived.split().freeze();
                    return Ok(Some((rest, self)));
                }
            }
        }
    }

    /// The next message with its head, when all of it has arrived.
    fn arrived_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some([_, length @ ..]) = self.arrived.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.decompressor.bytes_max {
            return Err(too_large(self.decompressor.bytes_max));
        }
        let whole = HEAD_BYTES + length;
        Ok((self.arrived.len() >= whole).then(|| self.arrived.split_to(whole).freeze()))
    }
}

fn too_large(bytes_max: usize) -> Status {
    WireFault::BodyTooLarge.status(format!("a message has at most {bytes_max} bytes, also when it is decompressed"))
}

fn decompress(
    compression: Compression,
    message: &[u8],
    bytes_max: usize,
    memory: &RequestMemory,
) -> Result<Bytes, Status> {
    let broken = |error: io::Error| status(&Fault::invalid("message", format!("it cannot be decompressed: {error}")));
    let mut source: Box<dyn Read> = match compression {
        Compression::Gzip => Box::new(flate2::read::GzDecoder::new(message)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(message).map_err(broken)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(broken)?;
            Box::new(decoder)
        }
    };
    let mut plain = BytesMut::new();
    plain.put_bytes(0, HEAD_BYTES);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = source.read(&mut piece).map_err(broken)?;
        if read == 0 {
            break;
        }
        if plain.len() - HEAD_BYTES + read > bytes_max {
            return Err(too_large(bytes_max));
        }
        memory.take_body(read)?;
        plain.extend_from_slice(&piece[..read]);
    }
    let length = u32::try_from(plain.len() - HEAD_BYTES).map_err(|_| too_large(bytes_max))?;
    plain[1..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(plain.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::api::status::http;
    use domain::MemoryBudget;

    const BYTES_MAX: usize = 1 << 20;

    fn compressed(compression: Compression, plain: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain).expect("in memory");
                encoder.finish().expect("in memory")
            }
            Compression::Zstd => zstd::encode_all(plain, 3).expect("in memory"),
        }
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("small").to_be_bytes();
        [&[flag][..], &length, message].concat()
    }

    /// The body as the service sees it, and the memory that its request holds then.
    async fn read(compression: Compression, body: Vec<u8>, budget: &MemoryBudget) -> Result<(Bytes, usize), Status> {
        let memory = RequestMemory::new(budget);
        // As the metered body does.
        memory.take_body(body.len())?;
        let decompressor =
            Decompressor { compression, memory: memory.clone(), pool: BodyPool::new(1), bytes_max: BYTES_MAX };
        let body =
            decompressor.body(Body::from(body)).collect().await.map_err(|error| Status::from_error(error.into()))?;
        Ok((body.to_bytes(), budget.taken()))
    }

    #[tokio::test]
    async fn compressed_messages_arrive_plain_and_hold_the_memory_of_their_plain_bytes() {
        let message: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let budget = MemoryBudget::new(64 << 20);
            let body = [framed(1, &compressed(compression, &message)), framed(0, b"plain")].concat();
            let (plain, taken) = read(compression, body, &budget).await.expect("sound");
            assert_eq!(plain, [framed(0, &message), framed(0, b"plain")].concat(), "{compression:?}");
            assert_eq!(taken, 2 * message.len() + 2 * framed(0, b"plain").len());
            assert_eq!(budget.taken(), 0);
        }
    }

    #[tokio::test]
    async fn a_message_that_grows_beyond_its_limit_or_its_memory_is_refused() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            for (bytes, memory) in [(BYTES_MAX + 1, 64 << 20), (BYTES_MAX - 1, BYTES_MAX)] {
                let budget = MemoryBudget::new(memory);
                let body = framed(1, &compressed(compression, &vec![0; bytes]));
                assert!(body.len() < 4096);
                let refused = read(compression, body, &budget).await.expect_err("too large");
                assert_eq!(http(&refused).as_u16(), 413, "{compression:?}: {refused}");
                assert_eq!(budget.taken(), 0);
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_decompressed_is_refused() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let sound = compressed(compression, &[7; 5000]);
            for broken in [b"not compressed".as_slice(), &sound[..sound.len() / 2]] {
                let refused = read(compression, framed(1, broken), &MemoryBudget::new(64 << 20)).await;
                assert_eq!(refused.expect_err("broken").code(), Code::InvalidArgument, "{compression:?}");
            }
        }
    }
}
