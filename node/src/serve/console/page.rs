//! Pages as they are sent: everything that stays. What moves, scripts fill in from events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::{Html, IntoResponse};
use maud::{DOCTYPE, Markup, html};
use weir_proto::admin::v1;

use super::files::place;

/// Versions that a page tells of; the latest.
const VERSIONS: usize = 200;

/// What a live page is about.
#[derive(Debug)]
pub(super) enum About {
    Limits,
    Nodes,
    Limit(String),
    Node(String),
}

/// Whether there is a token, which whoever sees a page has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Door {
    /// Anybody may look: there is nothing to log out of.
    Open,
    /// Whoever looks has logged in, and can log out.
    Locked,
}

/// Whether a person looks at what lies at `path`, rather than a script.
pub(in crate::serve) fn is_page(path: &str) -> bool {
    !path.starts_with("/events") && !path.starts_with("/past")
}

/// A page that follows the fleet.
pub(super) fn live(about: &About, door: Door) -> impl IntoResponse + use<> {
    let (view, name) = match about {
        About::Limits => ("limits", ""),
        About::Nodes => ("nodes", ""),
        About::Limit(name) => ("limit", name.as_str()),
        About::Node(name) => ("node", name.as_str()),
    };
    let content = match about {
        About::Limits | About::Nodes => list(view, true),
        About::Limit(name) => limit(name),
        About::Node(name) => html! {
            h1 { (name) " " span #facts .quiet {} }
            (list("limits of this node", true))
        },
    };
    let title = if name.is_empty() { view } else { name };
    let content = html! { (strip()) main { (content) } };
    page(title, view, name, content, door)
}

fn page(title: &str, view: &str, name: &str, content: Markup, door: Door) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Weir" }
                link rel="icon" href=(place("icon.svg"));
                link rel="stylesheet" href=(place("uplot.css"));
                link rel="stylesheet" href=(place("console.css"));
                script src=(place("theme.js")) {}
                @if view == "limit" {
                    script src=(place("uplot.js")) defer {}
                }
                script src=(place("console.js")) type="module" {}
            }
            body data-view=(view) data-name=(name) {
                (bar(view))
                (content)
                (keys(door))
            }
        }
    };
    Html(page.into_string())
}

fn bar(view: &str) -> Markup {
    let places = [
        ("/", "Limits", ["limits", "limit"]),
        ("/nodes", "Nodes", ["nodes", "node"]),
        ("/changes", "Changes", ["changes", ""]),
    ];
    html! {
        header.bar {
            a.brand href="/" { img src=(place("icon.svg")) alt="" width="20" height="20"; "Weir" }
            @if view != "login" {
                nav {
                    @for (href, text, views) in places {
                        a href=(href) aria-current=[views.contains(&view).then_some("page")] { (text) }
                    }
                }
            }
            span.space {}
            output #live .live {}
            button #theme type="button" title="Dark, light, or as the system (t)" {}
            button #help type="button" title="Keys (?)" { "?" }
        }
        noscript { p.notice { "This page fills itself in with a script, and scripts are off." } }
    }
}

/// The fleet at a glance.
fn strip() -> Markup {
    let facts = [
        ("promise", "Promise"),
        ("leader", "Leader"),
        ("zookeeper", "ZooKeeper"),
        ("members", "Members"),
        ("policy", "Policy"),
    ];
    html! {
        dl #fleet .strip aria-live="off" {
            @for (id, name) in facts {
                div id=(id) { dt { (name) } dd { "\u{2026}" } dd.more { "\u{a0}" } }
            }
        }
        p #lapse .notice.bad role="status" hidden {}
        p #notice .notice role="status" hidden {}
    }
}

fn list(what: &str, is_searched: bool) -> Markup {
    html! {
        @if is_searched {
            div.tools {
                input #search type="search" placeholder="Filter by name" aria-label={ "Filter " (what) }
                    autocomplete="off" spellcheck="false";
                select #sort aria-label="Sort by" {}
                output #count .quiet {}
            }
        }
        div #list .list role="table" aria-label=(what) {}
    }
}

fn limit(name: &str) -> Markup {
    html! {
        h1 { (name) " " span #facts .quiet {} }
        section.numbers #numbers {}
        div.charts {
            figure {
                figcaption { "The fleet" span.quiet #fleet-unit {} span.legend #fleet-legend {} }
                div #fleet-chart .chart {}
            }
            figure {
                figcaption { "This host, last minutes" span.quiet #host-unit {} }
                div #host-chart .chart {}
                p #host-notice .quiet hidden {}
            }
        }
        h2 { "Nodes" }
        (list("nodes of this limit", true))
        div.pair {
            section {
                h2 { "Heaviest sources " span.quiet #seen-by {} }
                table #sources .plain {}
            }
            section {
                h2 { "This host, by minute" }
                table #minutes .plain {}
            }
        }
    }
}

fn keys(door: Door) -> Markup {
    let keys = [
        ("j k ↓ ↑", "next, previous row"),
        ("Enter", "open it"),
        ("Backspace", "back to the list"),
        ("/", "filter"),
        ("Esc", "clear the filter, close this"),
        ("s", "sort by the next column"),
        ("1 2 3", "limits, nodes, changes"),
        ("t", "dark, light, as the system"),
        ("?", "this"),
    ];
    html! {
        dialog #keys aria-label="Keys" {
            h2 { "Keys" }
            dl {
                @for (key, what) in keys { dt { kbd { (key) } } dd { (what) } }
            }
            form method="dialog" { button { "Close" } }
            @if door == Door::Locked {
                form method="post" action="/logout" { button.link { "Log out" } }
            }
        }
    }
}

/// The form that asks for the token.
pub(in crate::serve) fn login(is_wrong: bool) -> impl IntoResponse {
    let content = html! {
        main.login {
            form method="post" action="/login" enctype="text/plain" {
                h1 { "Log in" }
                label for="token" { "Token" }
                // For whoever keeps passwords; it has no name, and is not sent.
                input value="weir" autocomplete="username" hidden;
                input #token name="token" type="password" autocomplete="current-password" required autofocus;
                @if is_wrong {
                    p.bad role="alert" { "This is not the token of this node." }
                }
                button { "Log in" }
                p.quiet { "The first line of the file that " code { "[http] token_file" } " names." }
            }
        }
    };
    // Whoever sees this has not logged in.
    page("log in", "login", "", content, Door::Open)
}

/// What was changed.
pub(super) fn changes(
    versions: Result<&[v1::Version], &str>,
    door: Door,
) -> impl IntoResponse + use<> {
    let content = html! {
        main {
            h1 { "Changes" }
            @match versions {
                Err(reason) => p.notice { (reason) },
                Ok([]) => p.quiet {
                    "No policy has been put in force yet: " code { "weir apply FILE" } " does that."
                },
                Ok(versions) => {
                    table.plain.changes {
                        thead { tr {
                            th { "Version" } th { "Stored" } th { "By" } th.wide { "State" }
                        } }
                        tbody {
                            @for version in versions.iter().take(VERSIONS) { (change(version)) }
                        }
                    }
                    p.quiet {
                        code { "weir rollback VERSION" } " puts an earlier one in force again."
                    }
                }
            }
        }
    };
    page("changes", "changes", "", content, door)
}

fn change(version: &v1::Version) -> Markup {
    let stored = UNIX_EPOCH + Duration::from_millis(version.stored_at_ms.try_into().unwrap_or(0));
    let ago = SystemTime::now().duration_since(stored).unwrap_or_default();
    html! {
        tr.now[version.in_force] {
            td.number { (version.version) }
            td.when { time data-ms=(version.stored_at_ms) { (span(ago)) " ago" } }
            td.by {
                @match (&version.author, version.restores) {
                    (Some(author), _) => {
                        (author.name) " "
                        @if !author.certified { (unproved()) }
                    },
                    (None, Some(_)) => span.quiet { "nobody: it was not confirmed" },
                    (None, None) => span.quiet { "unknown" },
                }
            }
            td.wide {
                @match version.confirm_within_ms {
                    Some(left) => span.warn { "on trial, " (left / 1_000) " s left to confirm" },
                    None if version.in_force => span.good { "in force" },
                    None => span.quiet { "replaced" },
                }
                @if let Some(by) = &version.confirmed_by {
                    span.quiet { " · confirmed by " (by.name) }
                    @if !by.certified { " " (unproved()) }
                }
                @match version.restores {
                    Some(0) => span.quiet { " · no limits again" },
                    Some(restored) => span.quiet { " · version " (restored) " again" },
                    None => {},
                }
            }
        }
    }
}

fn unproved() -> Markup {
    html! {
        small.quiet title="They said so; no certificate was asked for." { "unproved" }
    }
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn text(page: impl IntoResponse) -> String {
        let body = page.into_response().into_body();
        let bytes = to_bytes(body, 1 << 20).await.expect("a page");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn what_others_named_is_text() {
        let hostile = "\"><script>alert(1)</script>&'";
        for about in [
            About::Limit(hostile.to_owned()),
            About::Node(hostile.to_owned()),
        ] {
            let page = text(live(&about, Door::Locked)).await;
            assert!(!page.contains("<script>"), "{page}");
            assert!(page.contains("&lt;script&gt;"), "{page}");
        }
        let somebody = Some(v1::Author {
            name: hostile.to_owned(),
            certified: false,
        });
        let asked_for = v1::Version {
            author: somebody.clone(),
            ..v1::Version::default()
        };
        let confirmed = v1::Version {
            confirmed_by: somebody,
            ..v1::Version::default()
        };
        for page in [
            changes(Err(hostile), Door::Open),
            changes(Ok(&[asked_for]), Door::Open),
            changes(Ok(&[confirmed]), Door::Open),
        ] {
            let page = text(page).await;
            assert!(!page.contains("<script>"), "{page}");
            assert!(page.contains("&lt;script&gt;"), "{page}");
        }
    }

    #[tokio::test]
    async fn nothing_is_written_into_a_page_that_a_browser_would_run() {
        let pages = [
            text(live(&About::Limits, Door::Locked)).await,
            text(live(&About::Limit("a".to_owned()), Door::Locked)).await,
            text(changes(Ok(&[v1::Version::default()]), Door::Locked)).await,
            text(login(true)).await,
        ];
        for page in pages {
            let scripts = page.matches("<script").count();
            assert_eq!(page.matches("<script src=\"/static/").count(), scripts);
            for word in [
                "style=",
                "onclick",
                "onload",
                "http:",
                "https:",
                "javascript:",
            ] {
                assert!(!page.contains(word), "{word} in {page}");
            }
        }
    }
}
