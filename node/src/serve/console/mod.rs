//! The console: pages for a browser, which show what `weir top` shows. Nothing can be changed there.

pub(super) mod feed;
mod files;
pub(super) mod page;
mod picture;
mod topic;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, DefaultBodyLimit, FromRef, Path, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tonic::Request;
use weir_proto::admin::v1::{HistoryRequest, admin_server::Admin as _};

use super::{
    Asker, Question, TimeLine,
    admin::AdminService,
    http::{self, guard::OnDuty, incoming::Until, session},
};
use feed::Feed;
use page::{About, Door};
use topic::Topic;

/// Bytes of what a form sends: a token.
const FORM_BYTES: usize = 4_096;
/// Nothing from elsewhere, nothing written into a page, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

#[derive(Clone, Debug)]
struct Console {
    guard: Arc<OnDuty>,
    feed: Arc<Feed>,
    service: AdminService,
    asker: Asker,
}

impl FromRef<Console> for Arc<OnDuty> {
    fn from_ref(console: &Console) -> Self {
        console.guard.clone()
    }
}

impl FromRef<Console> for Door {
    fn from_ref(console: &Console) -> Self {
        console.guard.door()
    }
}

/// All of it, from `/` on, with fresh numbers every `period`.
pub(super) fn routes(
    guard: &Arc<OnDuty>,
    service: AdminService,
    asker: Asker,
    period: Duration,
) -> Router {
    let console = Console {
        guard: guard.clone(),
        feed: Feed::new(service.clone(), period),
        service,
        asker,
    };
    Router::new()
        .route("/", get(limits))
        .route("/nodes", get(nodes))
        .route("/limits/{name}", get(limit))
        .route("/nodes/{name}", get(node))
        .route("/changes", get(changes))
        .route("/events", get(fleet_events))
        .route("/events/limits/{name}", get(limit_events))
        .route("/events/nodes/{name}", get(node_events))
        .route("/past/{name}", get(past))
        // What comes above needs the token.
        .route_layer(middleware::from_fn_with_state(
            guard.clone(),
            session::shown,
        ))
        .route("/login", get(session::form).post(session::log_in))
        .route("/logout", post(session::log_out))
        .route("/static/{version}/{file}", get(files::file))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(middleware::map_response(careful))
        .with_state(console)
}

/// What a browser may do with any of it.
async fn careful(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn limits(State(door): State<Door>) -> impl IntoResponse {
    page::live(&About::Limits, door)
}

async fn nodes(State(door): State<Door>) -> impl IntoResponse {
    page::live(&About::Nodes, door)
}

async fn limit(State(door): State<Door>, Path(name): Path<String>) -> impl IntoResponse {
    page::live(&About::Limit(name), door)
}

async fn node(State(door): State<Door>, Path(name): Path<String>) -> impl IntoResponse {
    page::live(&About::Node(name), door)
}

/// Versions are numbered by ZooKeeper, which any node can read.
async fn changes(State(console): State<Console>, State(door): State<Door>) -> impl IntoResponse {
    let history = console.service.history(Request::new(HistoryRequest {}));
    match history.await {
        Ok(history) => page::changes(Ok(&history.into_inner().versions), door),
        Err(status) => page::changes(Err(status.message()), door),
    }
}

async fn fleet_events(
    State(console): State<Console>,
    ConnectInfo(until): ConnectInfo<Until>,
) -> Response {
    events(&console, Some(Topic::Fleet), until)
}

async fn limit_events(
    State(console): State<Console>,
    ConnectInfo(until): ConnectInfo<Until>,
    Path(name): Path<String>,
) -> Response {
    events(&console, Topic::limit(name), until)
}

async fn node_events(
    State(console): State<Console>,
    ConnectInfo(until): ConnectInfo<Until>,
    Path(name): Path<String>,
) -> Response {
    events(&console, Topic::node(name), until)
}

/// They end in order before their connection does, which is used for nothing else afterwards: the
/// browser makes another.
fn events(console: &Console, topic: Option<Topic>, Until(end): Until) -> Response {
    let Some(topic) = topic else {
        return (StatusCode::NOT_FOUND, "there is no such name\n").into_response();
    };
    match console.feed.listen(topic, end) {
        Some(events) => {
            let kind = [
                (header::CONTENT_TYPE, EVENT_STREAM),
                (header::CONNECTION, "close"),
            ];
            (kind, Body::from_stream(events)).into_response()
        }
        None => {
            let later = [(header::RETRY_AFTER, "5")];
            let text = "too many look at this node's console already\n";
            (StatusCode::SERVICE_UNAVAILABLE, later, text).into_response()
        }
    }
}

/// The last minutes of a limit on this host.
async fn past(State(console): State<Console>, Path(name): Path<String>) -> Response {
    let asked = http::ask(console.asker, |answer| Question::TimeLine(name, answer));
    let Some(TimeLine { spans, minutes }) = asked.await.flatten() else {
        return (StatusCode::NOT_FOUND, "this limit is not followed here\n").into_response();
    };
    let minutes = minutes.into_iter().map(|minute| {
        let dropped = minute.dropped.into_iter();
        serde_json::json!({
            "ago": minute.minutes_ago,
            "least": minute.share_least,
            "most": minute.share_most,
            "offered": minute.offered,
            "admitted": minute.admitted,
            "dropped": dropped.map(|drops| (drops.reason, drops.packets)).collect::<Vec<_>>(),
        })
    });
    let minutes: Vec<_> = minutes.collect();
    let json = serde_json::json!({ "spans": spans, "minutes": minutes });
    (
        [(header::CONTENT_TYPE, "application/json")],
        json.to_string(),
    )
        .into_response()
}
