//! `GET /metrics`, `/healthz` and `/readyz`, and the console.

pub(super) mod guard;
pub(super) mod incoming;
pub(super) mod session;

use std::time::Duration;

use axum::{
    Router, extract::State, http::StatusCode, http::header, middleware, response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::oneshot};

pub use guard::{Guard, Secret};
use weir_coord::grpc::Security;

use super::{
    Asker, Question,
    admin::AdminService,
    console::{self, feed::PERIOD},
};
use incoming::{Incoming, Until};

/// The media type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the listener fails. What the console shows it asks of the leader, if another node leads,
/// with what `fleet` says.
///
/// # Errors
///
/// That the socket can no longer be served.
pub async fn serve(
    listener: TcpListener,
    guard: Guard,
    asker: Asker,
    fleet: Security,
) -> std::io::Result<()> {
    serve_each(listener, guard, asker, fleet, PERIOD).await
}

/// The same, with pictures that follow each other faster or slower, for tests.
///
/// # Errors
///
/// Those of [`serve`].
#[doc(hidden)]
pub async fn serve_each(
    listener: TcpListener,
    guard: Guard,
    asker: Asker,
    fleet: Security,
    period: Duration,
) -> std::io::Result<()> {
    let incoming = Incoming::new(listener, guard.security.clone())?;
    let router = router(guard, asker, fleet, period);
    let service = router.into_make_service_with_connect_info::<Until>();
    axum::serve(incoming, service).await
}

fn router(guard: Guard, asker: Asker, fleet: Security, period: Duration) -> Router {
    let guard = guard.begin();
    let service = AdminService::new(asker.clone(), fleet);
    let console = console::routes(&guard, service, asker.clone(), period);
    Router::new()
        .route("/metrics", get(metrics))
        // What comes above needs the token; whoever watches over hosts need not have it.
        .route_layer(middleware::from_fn_with_state(guard.clone(), guard::known))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(asker)
        .merge(console)
        .layer(middleware::from_fn_with_state(guard, guard::paced))
}

async fn metrics(State(asker): State<Asker>) -> impl IntoResponse {
    match ask(asker, Question::Metrics).await {
        Some(text) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, PROMETHEUS_TEXT)],
            text,
        ),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "text/plain")],
            "the daemon does not answer\n".to_owned(),
        ),
    }
}

/// Healthy is a daemon whose loop turns. Whether the fleet is well is for `weir status` to say.
async fn health(State(asker): State<Asker>) -> impl IntoResponse {
    match ask(asker, Question::Alive).await {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon does not answer\n",
        ),
    }
}

/// Ready is a daemon that enforces a policy and is granted its part of it, or is alone on purpose.
async fn readiness(State(asker): State<Asker>) -> impl IntoResponse {
    match ask(asker, Question::Ready).await {
        Some(Ok(())) => (StatusCode::OK, "ready\n"),
        Some(Err(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon does not answer\n",
        ),
    }
}

pub(super) async fn ask<T>(
    asker: Asker,
    question: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    asker.send(question(answer)).await.ok()?;
    answered.await.ok()
}
