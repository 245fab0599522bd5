//! Between `kube` and the wire: asks for metadata only where that will do, counts requests, and notes which were answered.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, header};
use kube::client::Body;
use tower::{Layer, Service};

use super::kind::Kind;
use crate::metrics::Metrics;

/// Only names and owners, of many objects.
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// Only names and owners, one by one.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// How many requests were answered well, by kind.
#[derive(Debug, Clone)]
pub struct Tally {
    metrics: Arc<Metrics>,
    answered: Arc<[AtomicU64; Kind::ALL.len()]>,
}

impl Tally {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, answered: Arc::default() }
    }

    /// Requests for this kind that were answered well.
    #[must_use]
    pub fn answered(&self, kind: Kind) -> u64 {
        self.answered[kind as usize].load(Ordering::Relaxed)
    }
}

impl<S> Layer<S> for Tally {
    type Service = Tallied<S>;

    fn layer(&self, inner: S) -> Tallied<S> {
        Tallied { inner, tally: self.clone() }
    }
}

/// A client whose requests are counted.
#[derive(Debug, Clone)]
pub struct Tallied<S> {
    inner: S,
    tally: Tally,
}

impl<S, B> Service<Request<Body>> for Tallied<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let kind = Kind::of_path(request.uri().path());
        if let Some(kind) = kind {
            let watch = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
            if kind.metadata_only() {
                let accept = if watch { METADATA } else { METADATA_LIST };
                request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            let labels = [("verb", if watch { "watch" } else { "list" }), ("resource", kind.resource())];
            self.tally.metrics.api_requests.get_or_create(&labels).inc();
        }
        let (answer, answered) = (self.inner.call(request), Arc::clone(&self.tally.answered));
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(kind) = kind.filter(|_| answer.status().is_success()) {
                answered[kind as usize].fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer)
        })
    }
}
