//! What keys and answers do to a screen; and a made-up fleet for all tests of it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::{
    top::Outcome,
    view::{HeavySource, Key, Limit, Member, Node, NodeLimit, Source, ZooKeeper},
};

/// A limit to which so much is offered, of which 30,000 are admitted.
pub(in crate::top) fn limit(name: &str, offered: f64) -> LimitState {
    LimitState {
        limit: Limit {
            name: name.to_owned(),
            promise: "strict",
            mode: "enforce",
            unit: "packets",
            per: None,
            rate: 30_000.0,
            burst: 3_000.0,
            offered,
            admitted: offered.min(30_000.0),
            dropped: (offered - 30_000.0).max(0.0),
            nodes: 3,
            top: None,
        },
        promise_kept: true,
        nodes_on_floor: 0,
        nodes_failing_open: 0,
        pending: 0,
    }
}

fn node(number: usize) -> Node {
    Node {
        node: format!("00000000-0000-0000-0000-{number:012}"),
        name: format!("edge-{number}"),
        address: format!("198.18.{number}.1:7946"),
    }
}

fn share(limit: &str, offered: f64) -> NodeLimit {
    NodeLimit {
        limit: limit.to_owned(),
        unit: "packets",
        per: None,
        rate: 30_000.0,
        share: 10_000.0,
        floor: 4.6875,
        offered,
        admitted: offered.min(10_000.0),
        dropped: (offered - 10_000.0).max(0.0),
        lease_left_ms: Some(1_900),
        on_floor: false,
    }
}

/// Three nodes: the second leads, the third is gone. Four limits: one is flooded, one is keyed, one
/// broken, one quiet.
pub(in crate::top) fn fleet() -> Overview {
    let keyed = |mut state: LimitState| {
        state.limit.per = Some(Key {
            source_v4: 32,
            source_v6: 64,
        });
        state.limit.promise = "elastic";
        state.limit.rate = 500.0;
        state.limit.burst = 100.0;
        state
    };
    let broken = LimitState {
        promise_kept: false,
        nodes_failing_open: 1,
        nodes_on_floor: 1,
        ..limit("open-to-all", 45_000.0)
    };
    let limits = vec![
        limit("flood", 90_000.0),
        keyed(limit("dns-per-client", 1_250.0)),
        broken,
        limit("quiet", 0.0),
    ];
    let member = |number: usize| Member {
        node: node(number),
        live: number != 3,
        is_leader: number == 2,
        on_floor: number == 3,
        last_report_ms: (number != 3).then_some(80),
        policy_version: 3,
    };
    let row = |number: usize| NodeLimits {
        node: node(number),
        live: number != 3,
        is_leader: number == 2,
        limits: limits
            .iter()
            .map(|state| NodeLimit {
                on_floor: number == 3,
                ..share(&state.limit.name, number as f64 * 6_000.0)
            })
            .collect(),
    };
    let source = |source: &str, offered: f64, dropped: f64| Source {
        limit: "flood".to_owned(),
        unit: "packets",
        source: HeavySource {
            source: source.to_owned(),
            offered,
            dropped,
            error: 0.0,
            leased: None,
        },
    };
    Overview {
        node: node(1),
        leader: Some(node(2)),
        term: 4,
        zookeeper: Some(ZooKeeper {
            connected: true,
            since_ms: 125_000,
            servers: "198.18.0.10:2181".to_owned(),
        }),
        policy_version: 3,
        trial: None,
        members: (1..=3).map(member).collect(),
        nodes: (1..=3).map(row).collect(),
        sources: vec![
            source("198.51.100.7/32", 60_000.0, 41_000.0),
            source("2001:db8:0:17::/64", 900.0, 0.0),
        ],
        limits,
    }
}

/// A screen that shows it, after some ticks.
pub(in crate::top) fn shown(look: Look) -> Screen {
    let mut screen = Screen::new(look, Duration::from_secs(1), None);
    for tick in 0..40 {
        let mut fleet = fleet();
        let wave = f64::from(tick % 10) / 10.0;
        let flood = &mut fleet.limits[0].limit;
        flood.offered *= 0.2 + 0.8 * wave;
        flood.admitted = flood.offered.min(30_000.0);
        flood.dropped = flood.offered - flood.admitted;
        screen.observe(fleet, true);
    }
    screen.observe(fleet(), true);
    screen
}

pub(in crate::top) fn press(screen: &mut Screen, keys: &[KeyCode]) -> Vec<Outcome> {
    let keys = keys.iter();
    keys.map(|code| screen.press(KeyEvent::new(*code, KeyModifiers::NONE)))
        .collect()
}

fn screen() -> Screen {
    shown(Look::new(false, true))
}

fn names(screen: &Screen) -> Vec<&str> {
    screen.rows().iter().map(|row| row.name).collect()
}

const GIVEN: [&str; 4] = ["flood", "dns-per-client", "open-to-all", "quiet"];

#[test]
fn rows_are_sorted_reversed_and_filtered() {
    let mut screen = screen();
    assert_eq!(names(&screen), GIVEN);
    press(&mut screen, &[KeyCode::Char('d')]);
    assert_eq!(
        names(&screen),
        ["flood", "open-to-all", "dns-per-client", "quiet"]
    );
    press(&mut screen, &[KeyCode::Char('r')]);
    assert_eq!(names(&screen).last(), Some(&"flood"));
    press(&mut screen, &['/', 'D', 'n', 's'].map(KeyCode::Char));
    assert_eq!(names(&screen), ["dns-per-client"]);
    press(&mut screen, &[KeyCode::Backspace, KeyCode::Backspace]);
    assert_eq!(names(&screen), ["dns-per-client", "flood"], "with a d");
    press(&mut screen, &[KeyCode::Enter, KeyCode::Esc]);
    assert_eq!(names(&screen).len(), 4, "Esc takes the filter off");
    let mut seen = vec![screen.page().sort];
    for _ in 0..5 {
        press(&mut screen, &[KeyCode::Char('s')]);
        assert!(!seen.contains(&screen.page().sort), "{seen:?}");
        seen.push(screen.page().sort);
    }
}

#[test]
fn the_cursor_stays_on_a_name_when_rows_move() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Down, KeyCode::Down]);
    assert_eq!(screen.selected(), Some("open-to-all"));
    assert_eq!(screen.wants().limit, "open-to-all");
    press(&mut screen, &[KeyCode::Char('d')]);
    assert_eq!(
        (screen.selected(), screen.cursor()),
        (Some("open-to-all"), 1)
    );
    press(&mut screen, &[KeyCode::End, KeyCode::Down]);
    assert_eq!(screen.selected(), Some("quiet"), "no further than the end");
    press(&mut screen, &[KeyCode::Home, KeyCode::Up]);
    assert_eq!(screen.selected(), Some("flood"));
}

#[test]
fn enter_looks_closer_and_esc_goes_back() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Enter]);
    assert_eq!(screen.page().kind, Kind::Limit("flood".to_owned()));
    assert_eq!(names(&screen), ["edge-1", "edge-2", "edge-3"]);
    press(&mut screen, &[KeyCode::Down, KeyCode::Enter]);
    assert_eq!(screen.page().kind, Kind::Node("edge-2".to_owned()));
    let wanted = screen.wants();
    assert_eq!(
        (wanted.limit.as_str(), wanted.node.as_str()),
        ("", "edge-2")
    );
    assert_eq!(names(&screen), GIVEN);
    press(&mut screen, &[KeyCode::Esc, KeyCode::Esc, KeyCode::Esc]);
    assert_eq!(screen.page().kind, Kind::Limits);
    for _ in 0..100 {
        press(
            &mut screen,
            &[KeyCode::Char('n'), KeyCode::Enter, KeyCode::Enter],
        );
    }
    assert!(screen.pages.len() <= PAGES_REMEMBERED);
    assert_eq!(screen.pages[0].kind, Kind::Limits);
    press(&mut screen, &[KeyCode::Char('l')]);
    assert_eq!(screen.page().kind, Kind::Limits);
}

#[test]
fn keys_end_pause_and_change_the_pace() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Char('p')]);
    assert_eq!(screen.interval(), None);
    press(&mut screen, &[KeyCode::Char(' '), KeyCode::Char('+')]);
    assert_eq!(screen.interval(), Some(Duration::from_millis(500)));
    for _ in 0..40 {
        press(&mut screen, &[KeyCode::Char('-')]);
    }
    assert_eq!(screen.interval(), Some(crate::cli::INTERVAL_MOST));
    press(&mut screen, &[KeyCode::Char('?')]);
    assert!(screen.is_helping);
    assert_eq!(press(&mut screen, &[KeyCode::Char('x')]), [Outcome::Draw]);
    assert!(!screen.is_helping);
    assert_eq!(press(&mut screen, &[KeyCode::Char('q')]), [Outcome::Quit]);
    press(&mut screen, &[KeyCode::Char('/')]);
    assert_eq!(
        press(&mut screen, &[KeyCode::Char('q')]),
        [Outcome::Draw],
        "a letter of the filter"
    );
    let end = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.press(end), Outcome::Quit, "always");
}

#[test]
fn another_answer_within_a_tick_is_no_past() {
    let mut screen = screen();
    let before = screen.history.of("flood", usize::MAX).len();
    screen.observe(fleet(), false);
    assert_eq!(screen.history.of("flood", usize::MAX).len(), before);
    screen.fail("gone".to_owned());
    assert!(screen.trouble.is_some() && screen.overview.is_some());
    screen.observe(fleet(), true);
    assert_eq!(screen.trouble, None);
}
