//! Who may ask over HTTP, and how often.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use weir_coord::grpc::Security;

use super::session::Session;
use crate::serve::{console::page::Door, pace::Pace};

/// Requests in a second, of all who ask; to put metrics together takes milliseconds.
const PER_SECOND: u32 = 50;
const BEARER: &str = "Bearer ";

/// What is asked of whoever asks.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// What is spoken.
    pub security: Security,
    /// What has to be known; `None` for nothing.
    pub token: Option<Secret>,
}

/// A secret. It is never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// What `text` says.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it is that, in a time that says nothing about where it differs. How long it is may be
    /// found out.
    pub(super) fn is(&self, claimed: &str) -> bool {
        let (own, claimed) = (self.0.as_bytes(), claimed.as_bytes());
        let pairs = own.iter().zip(claimed);
        let differences = pairs.fold(0, |all, (one, other)| {
            std::hint::black_box(all | (one ^ other))
        });
        own.len() == claimed.len() && std::hint::black_box(differences) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A guard on duty.
#[derive(Debug)]
pub(in crate::serve) struct OnDuty {
    pub(super) token: Option<Secret>,
    /// Whether what is sent is encrypted.
    pub(super) is_private: bool,
    pub(super) session: Session,
    pace: Mutex<Pace>,
}

impl Guard {
    pub(super) fn begin(self) -> Arc<OnDuty> {
        Arc::new(OnDuty {
            token: self.token,
            is_private: self.security.is_authenticated(),
            session: Session::begin(),
            pace: Mutex::new(Pace::new(PER_SECOND)),
        })
    }
}

impl OnDuty {
    /// Whether the console is for those alone who know a token.
    pub(in crate::serve) const fn door(&self) -> Door {
        match self.token {
            Some(_) => Door::Locked,
            None => Door::Open,
        }
    }

    /// Whether a request shows the token itself.
    pub(super) fn knows(&self, request: &Request) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let shown = request.headers().get(header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix(BEARER));
        shown.is_some_and(|shown| token.is(shown))
    }
}

/// Lets pass who knows the token.
pub(super) async fn known(
    State(guard): State<Arc<OnDuty>>,
    request: Request,
    next: Next,
) -> Response {
    if guard.knows(&request) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    let text = "send `Authorization: Bearer TOKEN` with the first line of `[http] token_file`\n";
    (StatusCode::UNAUTHORIZED, challenge, text).into_response()
}

/// Lets pass what is not too much.
pub(super) async fn paced(
    State(guard): State<Arc<OnDuty>>,
    request: Request,
    next: Next,
) -> Response {
    let is_due = {
        // A panic while it is held leaves a count that is a little off.
        let pace = guard.pace.lock();
        let mut pace = pace.unwrap_or_else(PoisonError::into_inner);
        pace.is_due(Instant::now())
    };
    if is_due {
        return next.run(request).await;
    }
    (StatusCode::TOO_MANY_REQUESTS, "too many requests\n").into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;

    use super::*;

    fn request(authorization: Option<&str>) -> Request {
        let builder = Request::builder().uri("/metrics");
        let builder = match authorization {
            Some(text) => builder.header(header::AUTHORIZATION, text),
            None => builder,
        };
        builder.body(Body::empty()).expect("a request")
    }

    #[test]
    fn only_the_token_lets_in() {
        let token = Secret::new("correct horse battery staple");
        let guard = Guard {
            security: Security::Plain,
            token: Some(token),
        };
        let printed = format!("{guard:?}");
        assert!(!printed.contains("horse"), "{printed}");
        let guard = guard.begin();
        let knows = |text| guard.knows(&request(text));
        assert!(knows(Some("Bearer correct horse battery staple")));
        for wrong in [
            "Bearer correct horse battery stapl",
            "Bearer correct horse battery staple ",
            "Bearer Correct horse battery staple",
            "Bearer ",
            "correct horse battery staple",
            "Basic correct horse battery staple",
            "",
        ] {
            assert!(!knows(Some(wrong)), "{wrong:?}");
        }
        assert!(!knows(None));
        assert!(
            Guard::default().begin().knows(&request(None)),
            "on loopback"
        );
    }

    #[test]
    fn a_flood_of_requests_is_turned_away() {
        let mut pace = Pace::new(PER_SECOND);
        let begin = Instant::now();
        let millisecond = Duration::from_millis(1);
        let due = (0..10_000).filter(|at| pace.is_due(begin + millisecond * *at));
        let due = due.count();
        assert!((549..=551).contains(&due), "{due} in 10 s");
    }
}
