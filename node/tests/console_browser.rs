//! The console in a real browser, with a hundred nodes and a thousand limits.

#![allow(clippy::unwrap_used)]

mod console_support;

use std::{fs, time::Duration};

use console_support::{Mood, Served, browser::Browser, feed::Feed, serve};
use serde_json::json;

const FLEET: Feed = Feed {
    nodes: 100,
    limits: 1_000,
};
const TOKEN: &str = "correct horse battery staple";
/// Updates that are taken in before anything is measured, and while it is; `WEIR_CONSOLE_UPDATES` says
/// how many, for a long run by hand.
const WARM: u64 = 70;
const UPDATES: u64 = 100;
/// What may come and go of memory.
const GROWTH: u64 = 8 << 20;

const RUNS_OVER: &str = "document.documentElement.scrollWidth > innerWidth";
const ROWS: &str = "document.querySelectorAll('.rows .row').length";
const MANY_ROWS: &str = "document.querySelectorAll('.rows .row').length > 10";
/// Rows that lie over each other, and cells that reach out of their row.
const SPILLS: &str = "[...document.querySelectorAll('.rows .row')].flatMap((row) => {
    const of = (node) => node.getBoundingClientRect();
    const others = [...row.parentNode.children].filter((other) =>
        other !== row && of(other).top < of(row).bottom - 1 && of(row).top < of(other).bottom - 1);
    const cells = [...row.children].filter((cell) => of(cell).height > 0 &&
        (of(cell).bottom > of(row).bottom + 1 || of(cell).right > of(row).right + 1));
    return [...others, ...cells].map((node) => node.className + ' ' + node.textContent);
})";
/// Faster than in the daemon, so that a minute of pictures takes seconds.
const OFTEN: Duration = Duration::from_millis(100);

/// That so many updates of a page have been painted.
fn updates(count: u64) -> String {
    format!("performance.getEntriesByName('weir-update').length >= {count}")
}

/// Whatever the browser asked for, it asked of the daemon; and nothing failed or was forbidden.
fn assert_well(browser: &Browser, served: &Served) {
    let own = format!("http://{}/", served.address);
    let strange = |url: &&String| !url.starts_with(&own) && !url.starts_with("about:");
    let elsewhere: Vec<&String> = browser.requests.iter().filter(strange).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() << 10
}

/// Half are below the first, and 99 of 100 below the second.
fn spread(milliseconds: &mut [f64]) -> String {
    milliseconds.sort_by(f64::total_cmp);
    let [half, most] =
        [2, 100].map(|part| milliseconds[milliseconds.len() - 1 - milliseconds.len() / part]);
    format!("median {half:.1} ms, 99 % {most:.1} ms")
}

async fn in_browser(look: impl FnOnce(&mut Browser) + Send + 'static) {
    let looked = tokio::task::spawn_blocking(move || look(&mut Browser::start())).await;
    looked.unwrap();
}

#[tokio::test]
async fn a_question_that_falls_between_two_pages_is_asked_again() {
    let served = serve(FLEET, None, OFTEN).await;
    in_browser(move |browser| {
        let base = format!("http://{}", served.address);
        browser.open(&format!("{base}/changes"));
        for round in 0..20 {
            let path = ["/login", "/changes"][round % 2];
            browser.value(&format!(
                "void setTimeout(() => location.assign('{path}'), {})",
                round * 3
            ));
            browser.until(&format!(
                "location.pathname === '{path}' && document.readyState === 'complete'"
            ));
        }
        assert_well(browser, &served);
    })
    .await;
}

#[tokio::test]
async fn limits_are_found_opened_and_left_with_keys() {
    let served = serve(FLEET, None, OFTEN).await;
    in_browser(move |browser| {
        let base = format!("http://{}", served.address);
        browser.looks(1440, 900, "dark");
        browser.open(&format!("{base}/"));
        browser.until(MANY_ROWS);
        let rows = browser.value(ROWS).as_u64().unwrap();
        assert!(rows < 60, "only what is in sight exists, not {rows} rows");
        let text = browser.value("document.getElementById('fleet').innerText");
        let text = text.as_str().unwrap().to_owned();
        for part in [
            "kept",
            "edge-03",
            "term 9",
            "connected",
            "99 of 100",
            "version 12",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let high = browser.value("document.querySelector('.rows').offsetHeight");
        assert!(high.as_u64().unwrap() >= 1_000 * 38, "{high}");
        browser.until(&updates(62));
        browser.picture("console-limits-dark");
        browser.looks(1440, 900, "light");
        browser.picture("console-limits-light");

        browser.press("/");
        for key in ["n", "t", "p", "-", "0", "0"] {
            browser.press(key);
        }
        browser.until("document.getElementById('search').value === 'ntp-00'");
        browser.until(
            "[...document.querySelectorAll('.rows .row b')]\
             .every((name) => name.textContent.startsWith('ntp-00'))",
        );
        browser.press("Enter");
        browser.press("j");
        browser.until("document.querySelector('.selected b')");
        let selected = browser.value("document.querySelector('.selected b').textContent");
        browser.press("Enter");
        let path = format!("/limits/{}", selected.as_str().unwrap());
        browser.until(&format!("location.pathname === '{path}'"));
        browser.until("document.querySelectorAll('.rows .row').length > 5");
        browser.until("document.querySelectorAll('canvas').length === 2");
        browser.until("document.querySelectorAll('#sources tr').length === 11");
        browser.until("document.querySelectorAll('#minutes tr').length === 11");
        browser.until(&updates(60));
        browser.picture("console-limit-light");
        browser.press("t");
        browser.until("document.documentElement.dataset.theme === 'dark'");
        browser.painted();
        browser.picture("console-limit-dark");
        browser.press("Backspace");
        browser.until("location.pathname === '/'");
        browser.until(MANY_ROWS);
        browser.press("?");
        browser.until("document.getElementById('keys')?.open");
        browser.until(&updates(20));
        browser.picture("console-keys");
        browser.press("Escape");
        browser.until("!document.getElementById('keys').open");
        for (key, path) in [("2", "/nodes"), ("3", "/changes"), ("1", "/")] {
            browser.press(key);
            browser.until(&format!(
                "location.pathname === '{path}' && document.readyState === 'complete'"
            ));
        }
        assert_well(browser, &served);
    })
    .await;
}

#[tokio::test]
async fn pages_fit_a_telephone_and_a_desk() {
    let served = serve(FLEET, None, OFTEN).await;
    in_browser(move |browser| {
        let base = format!("http://{}", served.address);
        for (path, name, is_live) in [
            ("/", "limits", true),
            ("/limits/dns-0000", "limit", true),
            ("/nodes", "nodes", true),
            ("/nodes/edge-02", "node", true),
            ("/changes", "changes", false),
            ("/login", "login", false),
        ] {
            browser.looks(1440, 900, "dark");
            browser.open(&format!("{base}{path}"));
            if is_live {
                browser.until("document.querySelectorAll('.rows .row').length > 5");
                browser.until(&updates(30));
            }
            browser.picture(&format!("wide-{name}"));
            // Windows change while a page is open, as a telephone that is turned.
            for (width, height) in [(1_024, 768), (844, 390), (390, 844), (320, 640)] {
                browser.looks(width, height, "dark");
                assert_eq!(browser.value(RUNS_OVER), false, "{path} at {width}");
                assert_eq!(browser.value(SPILLS), json!([]), "{path} at {width}");
                browser.picture(&format!("at-{width}-{name}"));
            }
        }
        assert_well(browser, &served);
    })
    .await;
}

#[tokio::test]
async fn a_telephone_is_enough() {
    let served = serve(FLEET, None, OFTEN).await;
    in_browser(move |browser| {
        browser.looks(390, 844, "light");
        browser.open(&format!("http://{}/", served.address));
        browser.until(MANY_ROWS);
        browser.until(&updates(62));
        assert_eq!(browser.value(RUNS_OVER), false);
        browser.picture("phone-limits");
        let smallest = browser.value(
            "Math.min(...[...document.querySelectorAll('.rows .row:first-child .cell, .strip dd, nav a')]\
             .map((cell) => parseFloat(getComputedStyle(cell).fontSize)))",
        );
        assert!(smallest.as_f64().unwrap() >= 11.0, "{smallest} px can be read");
        let high = browser.value("document.querySelector('.rows .row').offsetHeight");
        assert!(high.as_u64().unwrap() >= 44, "a thumb finds {high} px");
        browser.click(".rows .row");
        browser.until("location.pathname.startsWith('/limits/')");
        browser.until("document.querySelectorAll('canvas').length === 2");
        browser.until(&updates(60));
        assert_eq!(browser.value(RUNS_OVER), false);
        browser.picture("phone-limit");
        browser.value("scrollTo(0, document.querySelector('.list').offsetTop - 60)");
        browser.painted();
        browser.picture("phone-limit-nodes");
        browser.click("nav a[href='/changes']");
        browser.until("document.querySelector('.changes')");
        assert_eq!(browser.value(RUNS_OVER), false);
        browser.picture("phone-changes");
        assert_well(browser, &served);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_well_is_said() {
    let served = serve(FLEET, None, OFTEN).await;
    in_browser(move |browser| {
        let says = |id: &str, part: &str| {
            format!(
                "!document.getElementById('{id}').hidden && \
                 document.getElementById('{id}').textContent.includes('{part}')"
            )
        };
        let quiet =
            "document.getElementById('lapse').hidden && document.getElementById('notice').hidden";
        browser.looks(1440, 900, "dark");
        browser.open(&format!("http://{}/", served.address));
        browser.until(MANY_ROWS);
        browser.until(&updates(20));
        browser.until(quiet);
        for (mood, part, name) in [
            (Mood::Leaderless, "No node leads", "leaderless"),
            (
                Mood::CutOff,
                "edge-03 leads, and edge-01 cannot ask it",
                "cut-off",
            ),
        ] {
            served.is(mood);
            browser.until(&says("notice", part));
            browser.until(&updates(20));
            browser.picture(&format!("state-{name}"));
            served.is(Mood::Well);
            browser.until(quiet);
        }
        served.is(Mood::Troubled);
        browser.until("document.querySelector('#promise .bad')?.textContent === 'broken for 1'");
        browser.until("document.querySelector('#zookeeper .bad')?.textContent === 'lost'");
        browser
            .until("document.getElementById('policy').innerText.includes('on trial, 42 s left')");
        browser.until("document.querySelector('.rows')?.innerText.includes('promise broken')");
        browser.picture("state-troubled");
        served.is(Mood::Idle);
        browser.until("document.querySelector('.none').textContent === 'No limits are in force.'");
        browser.until(quiet);
        browser.picture("state-idle");
        served.is(Mood::Well);
        browser.until(MANY_ROWS);

        served.is(Mood::Silent);
        browser.until(&says("lapse", "old: edge-01 does not answer"));
        assert_eq!(
            browser.value("document.body.classList.contains('stale')"),
            true
        );
        browser.picture("state-silent");
        browser.looks(390, 844, "dark");
        browser.picture("state-silent-phone");
        assert_eq!(browser.value(RUNS_OVER), false);
        served.is(Mood::Well);
        browser.until(quiet);
        assert_eq!(
            browser.value("document.body.classList.contains('stale')"),
            false
        );

        served.is(Mood::Silent);
        browser.open(&format!("http://{}/limits/dns-0000", served.address));
        browser.until(&says("lapse", "There is nothing to show yet"));
        browser.picture("state-never");
        served.is(Mood::Well);
        browser.until(quiet);
        browser.open(&format!("http://{}/limits/no-such-limit", served.address));
        browser.until(
            "document.getElementById('facts').textContent.includes('no limit of this name')",
        );
        browser.picture("state-unknown-limit");
        assert_well(browser, &served);
    })
    .await;
}

#[tokio::test]
async fn a_browser_logs_in_and_stays() {
    let served = serve(FLEET, Some(TOKEN), Duration::from_millis(200)).await;
    in_browser(move |browser| {
        browser.looks(1440, 900, "dark");
        let base = format!("http://{}", served.address);
        browser.does("Page.navigate", json!({ "url": base }));
        browser.until("location.pathname === '/login' && document.getElementById('token')");
        for token in ["wrong", TOKEN] {
            browser.value(&format!(
                "document.getElementById('token').value = '{token}'; \
                 document.querySelector('.login button').click()"
            ));
            if token == "wrong" {
                browser.until("document.querySelector('[role=alert]')");
            }
        }
        browser.until(
            "location.pathname === '/' && document.querySelectorAll('.rows .row').length > 10",
        );
        assert_eq!(browser.value("document.cookie"), "", "no script sees it");
    })
    .await;
}

#[tokio::test]
async fn a_hundred_nodes_and_a_thousand_limits_cost_no_memory() {
    // Ten times faster than in the daemon, and not so fast that a slow machine falls behind for ever.
    let served = serve(FLEET, None, OFTEN).await;
    let updates = std::env::var("WEIR_CONSOLE_UPDATES").ok();
    let updates = updates.map_or(UPDATES, |text| text.parse().expect("a number of updates"));
    in_browser(move |browser| {
        browser.looks(1440, 900, "dark");
        browser.open(&format!("http://{}/", served.address));
        // Counted by the page itself, because the names that it measures under are forgotten now and then.
        browser.value(
            "window.times = []; window.scripts = []; new PerformanceObserver((list) => { \
             for (const one of list.getEntries()) {
                 if (one.name === 'weir-update') times.push(one.duration);
                 if (one.name === 'weir-script') scripts.push(one.duration);
             } \
             }).observe({ type: 'measure' })",
        );
        browser.until(&format!("times.length >= {WARM}"));
        let before = (browser.heap(), resident_bytes());
        browser.value("times.length = scripts.length = 0");
        let [mut times, mut scripts] = [Vec::new(), Vec::new()];
        while (times.len() as u64) < updates {
            browser.until("times.length >= 50");
            for (all, name) in [(&mut times, "times"), (&mut scripts, "scripts")] {
                let new = browser.value(&format!("{name}.splice(0)"));
                all.extend(
                    new.as_array()
                        .unwrap()
                        .iter()
                        .map(|one| one.as_f64().unwrap()),
                );
            }
        }
        let after = (browser.heap(), resident_bytes());
        let grown = |(before, after): (u64, u64)| after.saturating_sub(before);
        println!(
            "{} updates: in scripts {}, from event to paint {}; browser {} -> {} KiB, this process \
             {} -> {} KiB",
            times.len(),
            spread(&mut scripts),
            spread(&mut times),
            before.0 >> 10,
            after.0 >> 10,
            before.1 >> 10,
            after.1 >> 10,
        );
        assert!(
            grown((before.0, after.0)) < GROWTH,
            "the page grows: {before:?} {after:?}"
        );
        assert!(
            grown((before.1, after.1)) < GROWTH,
            "the daemon grows: {before:?} {after:?}"
        );
        assert_well(browser, &served);
    })
    .await;
}
