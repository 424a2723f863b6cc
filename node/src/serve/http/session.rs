//! Who has shown the token in a browser, which can't send it with each request.
//!
//! The cookie does not hold the token: browsers send cookies to every port of a host, and what listens
//! there is not all Weir. It holds a number that this daemon drew when it began, which opens the
//! console of this daemon alone, until it ends.

use std::{
    fs::File,
    io::{self, Read as _},
    sync::Arc,
};

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use tracing::error;

use super::guard::{OnDuty, Secret};
use crate::serve::console::page;

const COOKIE: &str = "weir-session";
/// The field of the form. It is sent as `text/plain`, in which every character stands for itself.
const FIELD: &str = "token=";

/// What a browser shows that has shown the token; `None` if there was no number to be had, and then
/// nobody's is right.
#[derive(Debug)]
pub(in crate::serve) struct Session(Option<(String, Secret)>);

impl Session {
    pub(super) fn begin() -> Self {
        match drawn() {
            Ok(number) => {
                let number = format!("{number:032x}");
                let secret = Secret::new(&number);
                Self(Some((number, secret)))
            }
            Err(error) => {
                error!(%error, "nobody can log in to the console: there are no random numbers");
                Self(None)
            }
        }
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Some((_, secret)) = &self.0 else {
            return false;
        };
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies = cookies.filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';'));
        pairs.any(|pair| {
            let pair = pair.trim().split_once('=');
            pair.is_some_and(|(name, shown)| name == COOKIE && secret.is(shown))
        })
    }

    fn cookie(&self, is_private: bool) -> Option<String> {
        let (number, _) = self.0.as_ref()?;
        let secure = if is_private { "; Secure" } else { "" };
        Some(format!(
            "{COOKIE}={number}; Path=/; HttpOnly; SameSite=Strict{secure}"
        ))
    }
}

/// A number that nobody can guess.
fn drawn() -> io::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

/// Lets pass who has shown the token, or everybody if there is none. Others are shown where to.
///
/// Without a token nothing but its address says who asks: a page elsewhere whose name is made to lead
/// here would be let in, so that names are not heard at all.
pub(in crate::serve) async fn shown(
    State(guard): State<Arc<OnDuty>>,
    request: Request,
    next: Next,
) -> Response {
    if guard.token.is_none() {
        if is_by_address(request.headers()) {
            return next.run(request).await;
        }
        let text =
            "open the console by an IP address or as localhost, or set `[http] token_file`\n";
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    if guard.knows(&request) || guard.session.is_shown(request.headers()) {
        return next.run(request).await;
    }
    if page::is_page(request.uri().path()) {
        return Redirect::to("/login").into_response();
    }
    (StatusCode::UNAUTHORIZED, "log in at /login\n").into_response()
}

/// `localhost`, `127.0.0.1:9090`, `[::1]:9090`, and not a name.
fn is_by_address(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST);
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let is_address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let inner = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name == "localhost" || is_address(inner.unwrap_or(name))
}

/// The form.
pub(in crate::serve) async fn form() -> Response {
    page::login(false).into_response()
}

/// What the form sends.
pub(in crate::serve) async fn log_in(State(guard): State<Arc<OnDuty>>, body: Bytes) -> Response {
    let shown = std::str::from_utf8(&body).ok();
    let shown = shown.and_then(|text| text.trim_end_matches(['\r', '\n']).strip_prefix(FIELD));
    let is_right = match (&guard.token, shown) {
        (Some(token), Some(shown)) => token.is(shown),
        (Some(_), None) => false,
        (None, _) => true,
    };
    match guard.session.cookie(guard.is_private) {
        Some(cookie) if is_right => {
            ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        _ => (StatusCode::UNAUTHORIZED, page::login(true)).into_response(),
    }
}

/// Has the browser forget.
pub(in crate::serve) async fn log_out() -> Response {
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a header's value"))])
    }

    #[test]
    fn only_the_session_of_this_daemon_is_let_in() {
        let (own, other) = (Session::begin(), Session::begin());
        let cookie = own.cookie(true).expect("random numbers");
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"));
        let pair = cookie.split(';').next().expect("a pair");
        let shows =
            |session: &Session, value: &str| session.is_shown(&headers(header::COOKIE, value));
        assert!(shows(&own, pair));
        assert!(shows(&own, &format!("other=1; {pair}")));
        assert!(!shows(&other, pair));
        assert!(!shows(&own, &pair[..pair.len() - 1]));
        assert!(!shows(&own, &format!("{COOKIE}=")));
        assert!(!own.is_shown(&HeaderMap::new()));
    }

    #[test]
    fn a_name_is_no_address() {
        for (host, is) in [
            ("127.0.0.1", true),
            ("127.0.0.1:9090", true),
            ("[::1]:9090", true),
            ("[::1]", true),
            ("localhost:9090", true),
            ("attacker.example:9090", false),
            ("localhost.attacker.example", false),
            ("127.0.0.1.attacker.example", false),
            ("", false),
        ] {
            assert_eq!(is_by_address(&headers(header::HOST, host)), is, "{host}");
        }
        assert!(!is_by_address(&HeaderMap::new()));
    }
}
