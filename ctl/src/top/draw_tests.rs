//! What is seen, character by character.

use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyCode, style::Color};

use super::draw;
use crate::top::{
    Look, Screen,
    screen::tests::{press, shown},
};

fn terminal(screen: &Screen, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a made-up terminal");
    terminal.draw(|frame| draw(screen, frame)).expect("drawn");
    terminal
}

/// The rows, without the spaces at their ends.
fn rows(screen: &Screen, width: u16, height: u16) -> String {
    let terminal = terminal(screen, width, height);
    let buffer = terminal.backend().buffer();
    let row = |y: u16| {
        let row: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        row.trim_end().to_owned() + "\n"
    };
    (0..height).map(row).collect()
}

fn plain() -> Screen {
    shown(Look::new(false, true))
}

#[test]
fn the_first_page_at_80_by_24() {
    assert_eq!(
        rows(&plain(), 80, 24),
        include_str!("draw/snapshots/limits.txt")
    );
}

#[test]
fn one_limit_at_80_by_24() {
    let mut screen = plain();
    press(&mut screen, &[KeyCode::Enter, KeyCode::Down]);
    assert_eq!(
        rows(&screen, 80, 24),
        include_str!("draw/snapshots/limit.txt")
    );
}

#[test]
fn one_node_at_80_by_24() {
    let mut screen = plain();
    press(&mut screen, &[KeyCode::Char('n'), KeyCode::Enter]);
    assert_eq!(
        rows(&screen, 80, 24),
        include_str!("draw/snapshots/node.txt")
    );
}

#[test]
fn with_more_room_there_is_more() {
    let page = rows(&plain(), 200, 50);
    for column in [
        "TREND", "USED", "PROMISE", "MODE", "ON FLOOR", "BURST", "PER",
    ] {
        assert!(page.contains(column), "{column} in\n{page}");
    }
    assert!(
        page.contains("1 OPEN") && page.contains("v4/32 v6/64"),
        "{page}"
    );
    let mut screen = plain();
    press(&mut screen, &[KeyCode::Enter]);
    let page = rows(&screen, 200, 50);
    let chart = page.lines().skip(3).take(4).filter(|row| row.contains('█'));
    assert_eq!(chart.count(), 4, "a chart of four rows\n{page}");
    for column in ["ADMITTED", "FLOOR", "~41.0k"] {
        assert!(page.contains(column), "{column} in\n{page}");
    }
}

#[test]
fn nothing_is_wider_than_the_terminal_and_no_size_is_too_small() {
    let mut screen = plain();
    let pages: [&[KeyCode]; 5] = [
        &[],
        &[KeyCode::Enter],
        &[KeyCode::Enter],
        &[KeyCode::Char('n')],
        &[KeyCode::Char('?')],
    ];
    for keys in pages {
        press(&mut screen, keys);
        for width in [1, 2, 7, 20, 33, 50, 71, 72, 81] {
            for height in [1, 2, 3, 5, 9, 15, 16, 17] {
                rows(&screen, width, height);
            }
        }
    }
    let narrow = rows(&plain(), 40, 24);
    assert!(narrow.contains(" v  flood"), "{narrow}");
    assert!(
        narrow.contains("nodes on flood") && !narrow.contains("sources"),
        "{narrow}"
    );
    assert!(
        !rows(&plain(), 80, 14).contains("nodes on"),
        "only the table"
    );
}

#[test]
fn what_needs_somebody_is_on_top() {
    let mut screen = plain();
    screen.fail("no daemon answers".to_owned());
    assert!(rows(&screen, 80, 24).contains(" NO ANSWER: no daemon answers\n"));
    let overview = screen.overview.as_mut().expect("shown");
    overview.leader = None;
    screen.trouble = None;
    let page = rows(&screen, 80, 24);
    assert!(
        page.contains("NO LEADER") && page.contains("fall to their floors"),
        "{page}"
    );
    press(&mut screen, &['/', 'd', 'n'].map(KeyCode::Char));
    let page = rows(&screen, 80, 24);
    assert!(
        page.contains(" /dn ") && page.contains("1 of 1, with \"dn\" of 4"),
        "{page}"
    );
    press(&mut screen, &[KeyCode::Char('x')]);
    assert!(rows(&screen, 80, 24).contains("no limit has such a name"));
}

#[test]
fn before_the_first_answer_there_is_no_table() {
    let screen = Screen::new(
        Look::new(true, true),
        std::time::Duration::from_secs(1),
        None,
    );
    let page = rows(&screen, 80, 24);
    assert!(page.contains("waiting for the first answer"), "{page}");
}

/// Whether any cell has a colour of its own.
fn has_colour(screen: &Screen) -> bool {
    let terminal = terminal(screen, 80, 24);
    let cells = &terminal.backend().buffer().content;
    cells
        .iter()
        .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
}

#[test]
fn without_colour_the_same_is_said() {
    let coloured = shown(Look::new(true, true));
    assert!(has_colour(&coloured) && !has_colour(&plain()));
    assert_eq!(rows(&coloured, 80, 24), rows(&plain(), 80, 24));
    let ascii = rows(&shown(Look::new(false, false)), 80, 24);
    assert!(ascii.is_ascii(), "{ascii}");
}

#[test]
fn the_cursor_is_seen_on_the_page_that_it_is_on() {
    let mut screen = plain();
    let many: Vec<_> = (0..1_000)
        .map(|number| crate::top::screen::tests::limit(&format!("limit-{number:03}"), 1.0))
        .collect();
    screen.overview.as_mut().expect("shown").limits = many;
    press(&mut screen, &[KeyCode::End]);
    let page = rows(&screen, 80, 24);
    assert!(
        page.contains("limit-999") && page.contains("1000 of 1000"),
        "{page}"
    );
    press(&mut screen, &[KeyCode::Home, KeyCode::PageDown]);
    assert!(rows(&screen, 80, 24).contains("limit-010"));
}
