//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::screen::{Kind, Screen};
use crate::cli::{INTERVAL_LEAST, INTERVAL_MOST};

/// Rows of a page up or down.
const LEAP: isize = 10;
/// The longest filter: longer than any name.
const FILTER_MOST: usize = 64;

/// Every key, for those who ask. Two columns.
pub(super) const KEYS: [(&str, &str); 13] = [
    ("up down, k j", "move the cursor"),
    ("PgUp PgDn, Home End", "move it further"),
    ("Enter", "look closer at what is under it"),
    ("Esc, Backspace", "go back"),
    ("l, n", "all limits, all nodes"),
    ("/", "show only names that contain a word"),
    ("s, r", "sort by something else, reverse the order"),
    ("o d a u", "by offered, dropped, admitted, part used"),
    ("space, p", "pause, go on"),
    ("+ -", "tick more often, less often"),
    ("ctrl-l", "draw anew"),
    ("?, h", "these keys"),
    ("q, ctrl-c", "quit"),
];

/// What the command has to do about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing.
    Nothing,
    /// Show what has changed.
    Draw,
    /// Clear the terminal first: something else wrote on it.
    Redraw,
    /// Leave.
    Quit,
}

impl Screen {
    /// A key was pressed.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Outcome {
        if key.kind == KeyEventKind::Release {
            return Outcome::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Outcome::Quit,
                KeyCode::Char('l') => Outcome::Redraw,
                _ => Outcome::Nothing,
            };
        }
        if self.typed.is_some() {
            self.type_filter(key.code);
            return Outcome::Draw;
        }
        if self.is_helping {
            self.is_helping = false;
            return match key.code {
                KeyCode::Char('q') => Outcome::Quit,
                _ => Outcome::Draw,
            };
        }
        self.command(key.code)
    }

    /// The filter is typed: the table follows each letter.
    fn type_filter(&mut self, key: KeyCode) {
        let Some(typed) = &mut self.typed else {
            return;
        };
        match key {
            KeyCode::Enter => self.typed = None,
            KeyCode::Esc => {
                self.typed = None;
                self.page_mut().filter.clear();
            }
            KeyCode::Backspace => {
                typed.pop();
                self.page_mut().filter.pop();
            }
            KeyCode::Char(letter) if typed.len() < FILTER_MOST => {
                typed.push(letter);
                self.page_mut().filter.push(letter);
            }
            _ => {}
        }
    }

    fn command(&mut self, key: KeyCode) -> Outcome {
        use super::screen::Sort::{Admitted, Dropped, Offered, Used};
        match key {
            KeyCode::Char('q') => return Outcome::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.move_cursor(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_cursor(1),
            KeyCode::PageUp => self.move_cursor(-LEAP),
            KeyCode::PageDown => self.move_cursor(LEAP),
            KeyCode::Home | KeyCode::Char('g') => self.move_cursor(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_cursor(isize::MAX),
            KeyCode::Enter | KeyCode::Right => self.look_closer(),
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.back(),
            KeyCode::Char('l') => self.pages.truncate(1),
            KeyCode::Char('n') => self.open(Kind::Nodes),
            KeyCode::Char('/') => {
                self.page_mut().filter.clear();
                self.typed = Some(String::new());
            }
            KeyCode::Char('s') => self.page_mut().sort = self.page().sort.next(),
            KeyCode::Char('o') => self.page_mut().sort = Offered,
            KeyCode::Char('d') => self.page_mut().sort = Dropped,
            KeyCode::Char('a') => self.page_mut().sort = Admitted,
            KeyCode::Char('u') => self.page_mut().sort = Used,
            KeyCode::Char('r') => self.page_mut().is_reversed ^= true,
            KeyCode::Char(' ' | 'p') => self.is_paused ^= true,
            KeyCode::Char('+' | '=') => {
                self.interval = (self.interval / 2).max(INTERVAL_LEAST);
            }
            KeyCode::Char('-') => self.interval = (self.interval * 2).min(INTERVAL_MOST),
            KeyCode::Char('?' | 'h') => self.is_helping = true,
            _ => return Outcome::Nothing,
        }
        Outcome::Draw
    }

    fn look_closer(&mut self) {
        let Some(name) = self.selected().map(str::to_owned) else {
            return;
        };
        self.open(match self.page().kind {
            Kind::Limits | Kind::Node(_) => Kind::Limit(name),
            Kind::Nodes | Kind::Limit(_) => Kind::Node(name),
        });
    }

    /// First without the filter, then to the page before.
    fn back(&mut self) {
        if !self.page().filter.is_empty() {
            self.page_mut().filter.clear();
        } else if self.pages.len() > 1 {
            self.pages.pop();
        }
    }
}
