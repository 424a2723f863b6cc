//! `GET /metrics`, `/healthz` and `/readyz`.

use axum::{
    Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get,
};
use tokio::{net::TcpListener, sync::oneshot};

use super::{Asker, Question};

/// The media type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the listener fails.
///
/// # Errors
///
/// That the socket can no longer be served.
pub async fn serve(listener: TcpListener, asker: Asker) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(asker);
    axum::serve(listener, router).await
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

async fn ask<T>(asker: Asker, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    asker.send(question(answer)).await.ok()?;
    answered.await.ok()
}
