//! The console as it is served: who gets what, and what a browser is told about it.

#![allow(clippy::unwrap_used)]

mod console_support;

use std::{sync::atomic::Ordering, time::Duration};

use console_support::{Served, ask, connected, feed::Feed, read_until, serve};

const TOKEN: &str = "correct horse; battery=staple%20";
const SMALL: Feed = Feed {
    nodes: 3,
    limits: 20,
};
const FAST: Duration = Duration::from_millis(20);
/// As in the daemon: `STREAMS`.
const STREAMS: usize = 32;

const PAGES: [&str; 6] = [
    "/",
    "/nodes",
    "/limits/dns-0000",
    "/nodes/edge-01",
    "/changes",
    "/login",
];

fn head(answer: &str) -> &str {
    answer.split("\r\n\r\n").next().unwrap()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    head(answer).lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn is(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
}

async fn get(served: &Served, path: &str) -> String {
    ask(served.address, "GET", path, "").await
}

#[tokio::test]
async fn every_page_is_there_and_says_what_a_browser_may_do() {
    let served = serve(SMALL, None, FAST).await;
    for path in PAGES.into_iter().chain(["/past/dns-0000", "/past/-"]) {
        let answer = get(&served, path).await;
        let expected = if path == "/past/-" { 404 } else { 200 };
        assert!(is(&answer, expected), "{path}: {answer}");
        let policy = header(&answer, "content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&answer, "cache-control"), Some("no-store"), "{path}");
    }
    assert!(is(&get(&served, "/nothing").await, 404));
    assert!(is(&get(&served, "/healthz").await, 200), "as before");
}

#[tokio::test]
async fn only_who_has_logged_in_can_log_out() {
    let open = serve(SMALL, None, FAST).await;
    let locked = serve(SMALL, Some(TOKEN), FAST).await;
    for path in PAGES {
        let answer = get(&open, path).await;
        assert!(is(&answer, 200) && !answer.contains("/logout"), "{path}");
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let answer = ask(locked.address, "GET", path, &bearer).await;
        assert!(is(&answer, 200), "{path}: {answer}");
        assert_eq!(answer.contains("/logout"), path != "/login", "{path}");
    }
}

#[tokio::test]
async fn nothing_can_be_changed() {
    let served = serve(SMALL, None, FAST).await;
    let read_only = PAGES.into_iter().filter(|path| *path != "/login");
    for path in read_only.chain(["/events", "/past/dns-0000"]) {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = ask(served.address, method, path, "").await;
            assert!(is(&answer, 405), "{method} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn names_in_addresses_are_text_in_pages() {
    let served = serve(SMALL, None, FAST).await;
    let hostile = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for path in ["/limits/", "/nodes/"] {
        let answer = get(&served, &format!("{path}{hostile}")).await;
        assert!(is(&answer, 200), "{answer}");
        assert!(!answer.contains("<script>"), "{answer}");
    }
    let long = "a".repeat(256);
    let answer = get(&served, &format!("/events/limits/{long}")).await;
    assert!(is(&answer, 404), "{answer}");
}

#[tokio::test]
async fn only_the_token_or_its_session_lets_in() {
    let served = serve(SMALL, Some(TOKEN), FAST).await;
    let at = served.address;
    let asked = |path: &'static str, more: String| async move { ask(at, "GET", path, &more).await };
    for path in PAGES.into_iter().filter(|path| *path != "/login") {
        let answer = asked(path, String::new()).await;
        assert!(is(&answer, 303), "{path}: {answer}");
        assert_eq!(header(&answer, "location"), Some("/login"));
        assert!(!answer.contains("dns-0000"), "{answer}");
    }
    for path in ["/events", "/events/limits/dns-0000", "/past/dns-0000"] {
        for more in ["", "Cookie: weir-session=", "Authorization: Bearer correct"] {
            assert!(
                is(&asked(path, more.to_owned()).await, 401),
                "{path} {more}"
            );
        }
    }
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert!(is(&asked("/", bearer).await, 200));

    let log_in = |shown: &str| {
        let more = format!("Content-Type: text/plain\r\n\r\ntoken={shown}\r\n");
        async move { ask(at, "POST", "/login", &more).await }
    };
    for wrong in ["", "correct", &TOKEN[1..], &TOKEN.replace(' ', "+")] {
        let answer = log_in(wrong).await;
        assert!(is(&answer, 401), "{wrong}: {answer}");
        assert_eq!(header(&answer, "set-cookie"), None);
    }
    let answer = log_in(TOKEN).await;
    assert!(is(&answer, 303), "{answer}");
    let cookie = header(&answer, "set-cookie").expect("a cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    assert!(!cookie.contains("horse"), "it is not the token: {cookie}");
    let pair = cookie.split(';').next().unwrap();
    let answer = asked("/past/dns-0000", format!("Cookie: {pair}")).await;
    assert!(is(&answer, 200), "{answer}");
    let answer = asked("/metrics", format!("Cookie: {pair}")).await;
    assert!(
        is(&answer, 401),
        "a session is for the console alone: {answer}"
    );

    let other = serve(SMALL, Some(TOKEN), FAST).await;
    let answer = ask(
        other.address,
        "GET",
        "/past/dns-0000",
        &format!("Cookie: {pair}"),
    )
    .await;
    assert!(is(&answer, 401), "a session is of one daemon: {answer}");
    let long = format!(
        "Content-Type: text/plain\r\n\r\ntoken={}",
        "a".repeat(5_000)
    );
    let answer = ask(at, "POST", "/login", &long).await;
    assert!(is(&answer, 413), "{answer}");
}

#[tokio::test]
async fn a_name_that_leads_here_is_not_heard_without_a_token() {
    let served = serve(SMALL, None, FAST).await;
    for path in ["/", "/events", "/past/dns-0000"] {
        let answer = ask(served.address, "GET", path, "Host: attacker.example").await;
        assert!(is(&answer, 421), "{path}: {answer}");
    }
    let answer = ask(served.address, "GET", "/", "Host: localhost:9090").await;
    assert!(is(&answer, 200), "{answer}");
}

#[tokio::test]
async fn files_are_kept_by_browsers_until_they_change() {
    let served = serve(SMALL, None, FAST).await;
    let page = get(&served, "/limits/dns-0000").await;
    let places: Vec<&str> = page
        .split('"')
        .filter(|part| part.starts_with("/static/"))
        .collect();
    assert!(places.len() >= 6, "{places:?}");
    for place in places {
        let answer = get(&served, place).await;
        assert!(is(&answer, 200), "{place}");
        let kept = header(&answer, "cache-control").unwrap();
        assert!(kept.contains("immutable"), "{kept}");
        let tag = header(&answer, "etag").expect("a tag");
        let again = format!("If-None-Match: {tag}");
        let again = ask(served.address, "GET", place, &again).await;
        assert!(is(&again, 304) && again.ends_with("\r\n\r\n"), "{again}");
        let other = place.replace("/static/", "/static/0");
        assert!(is(&get(&served, &other).await, 404));
    }
    for path in ["/static/x/../../etc/passwd", "/static/..%2f..%2fetc/passwd"] {
        assert!(is(&get(&served, path).await, 404));
    }
}

fn events_of(served: &Served, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", served.address)
}

#[tokio::test]
async fn all_comes_first_and_then_what_has_changed() {
    let served = serve(SMALL, None, FAST).await;
    let mut stream = connected(served.address, &events_of(&served, "/events")).await;
    let text = read_until(&mut stream, |text| {
        text.matches("event: change").count() >= 3
    })
    .await;
    assert_eq!(text.matches("event: all").count(), 1, "{text}");
    assert!(text.contains("text/event-stream"), "{text}");
    assert_eq!(
        header(&text, "connection"),
        Some("close"),
        "it is for this alone"
    );
    assert!(text.find("retry: 300") < text.find("event: all"), "{text}");
    assert!(text.contains("\"dns-0000\""), "{text}");
}

#[tokio::test]
async fn listeners_are_so_many_and_share_what_is_asked() {
    let served = serve(SMALL, None, Duration::from_millis(100)).await;
    let mut open = Vec::new();
    for number in 0..STREAMS {
        // Half of them look at the same, the others each at something else.
        let path = match number % 2 {
            0 => "/events".to_owned(),
            _ => format!("/events/limits/limit-{number}"),
        };
        let mut stream = connected(served.address, &events_of(&served, &path)).await;
        read_until(&mut stream, |text| text.contains("event: all")).await;
        open.push(stream);
    }
    let answer = get(&served, "/events").await;
    assert!(is(&answer, 503), "{answer}");
    assert!(header(&answer, "retry-after").is_some());
    assert!(
        is(&get(&served, "/healthz").await, 200),
        "there is room for others"
    );

    let before = served.asked.load(Ordering::Relaxed);
    read_until(&mut open[0], |text| text.matches("\n\n").count() >= 10).await;
    let asked = served.asked.load(Ordering::Relaxed) - before;
    let topics = 1 + STREAMS as u64 / 2;
    assert!(asked <= 13 * topics, "{asked} questions in 10 periods");

    open.clear();
    let mut again = None;
    for _ in 0..200 {
        let mut stream = connected(served.address, &events_of(&served, "/events")).await;
        let text = read_until(&mut stream, |text| text.contains("\r\n\r\n")).await;
        if is(&text, 200) {
            again = Some(stream);
            break;
        }
        tokio::time::sleep(FAST).await;
    }
    assert!(again.is_some(), "places of those who went are free");
}
