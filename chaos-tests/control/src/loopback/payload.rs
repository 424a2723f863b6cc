//! Counts what messages weigh, in a gRPC service that knows nothing of it.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use http_body::{Frame, SizeHint};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, Service, http},
    server::NamedService,
};

/// Bytes of messages, both ways: without what gRPC, HTTP and TCP put around them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload(Arc<AtomicU64>);

impl Payload {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A service whose messages are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    pub(crate) service: S,
    pub(crate) payload: Payload,
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let payload = self.payload.clone();
        let answer = self
            .service
            .call(request.map(|body| counted(body, payload.clone())));
        Box::pin(async move { Ok(answer.await?.map(|body| counted(body, payload))) })
    }
}

fn counted(body: Body, payload: Payload) -> Body {
    Body::new(CountedBody {
        body,
        messages: Messages::default(),
        payload,
    })
}

struct CountedBody {
    body: Body,
    messages: Messages,
    payload: Payload,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = self.messages.pass(data);
            self.payload.0.fetch_add(bytes, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells messages from the five bytes in front of each, a flag and the length (gRPC over HTTP/2,
/// *Length-Prefixed-Message*), wherever a stream is cut into pieces.
#[derive(Debug, Default)]
struct Messages {
    prefix: Vec<u8>,
    /// What is still to come of the message that has begun.
    left: usize,
}

impl Messages {
    const PREFIX: usize = 5;

    /// How many bytes of a piece are messages'.
    fn pass(&mut self, mut piece: &[u8]) -> u64 {
        let mut passed = 0;
        while !piece.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(piece.len());
                self.left -= taken;
                passed += taken as u64;
                piece = &piece[taken..];
                continue;
            }
            self.prefix.push(piece[0]);
            piece = &piece[1..];
            if let [_, a, b, c, d] = self.prefix[..] {
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.prefix.clear();
            }
            debug_assert!(self.prefix.len() < Self::PREFIX);
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_not_counted_wherever_a_stream_is_cut() {
        let mut stream = Vec::new();
        for length in [3_u32, 0, 300] {
            stream.push(0);
            stream.extend(length.to_be_bytes());
            stream.extend(vec![7; length as usize]);
        }
        for cut in 1..=stream.len() {
            let mut messages = Messages::default();
            let passed: u64 = stream.chunks(cut).map(|piece| messages.pass(piece)).sum();
            assert_eq!(passed, 303, "in pieces of {cut}");
        }
    }
}
