//! What a terminal can show.

use std::env;

use ratatui::style::{Color, Modifier, Style};

/// Colours and characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    has_colour: bool,
    has_unicode: bool,
}

impl Look {
    /// What the environment says: `NO_COLOR`, `TERM`, and the locale.
    pub(crate) fn of_environment() -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
        let locale = locale.filter_map(|name| env::var(name).ok());
        let locale = locale.map(|value| value.to_lowercase());
        let is_dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
        Self {
            has_colour: !is_set("NO_COLOR") && !is_dumb,
            has_unicode: locale
                .into_iter()
                .find(|value| !value.is_empty())
                .is_some_and(|value| value.contains("utf-8") || value.contains("utf8")),
        }
    }

    #[cfg(test)]
    pub(crate) const fn new(has_colour: bool, has_unicode: bool) -> Self {
        Self {
            has_colour,
            has_unicode,
        }
    }

    fn colour(self, colour: Color) -> Style {
        if self.has_colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub(super) fn good(self) -> Style {
        self.colour(Color::Green)
    }

    pub(super) fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn warning(self) -> Style {
        self.colour(Color::Yellow)
    }

    pub(super) fn accent(self) -> Style {
        self.colour(Color::Cyan)
    }

    pub(super) const fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) const fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) const fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// From nothing to all.
    pub(super) const fn bars(self) -> [char; 9] {
        if self.has_unicode {
            [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        } else {
            [' ', '.', '.', ':', ':', '-', '=', '+', '#']
        }
    }

    pub(super) const fn line(self) -> &'static str {
        if self.has_unicode { "─" } else { "-" }
    }

    pub(super) const fn dot(self) -> &'static str {
        if self.has_unicode { " · " } else { " | " }
    }

    /// What is sorted by, largest first or the other way.
    pub(super) const fn arrow(self, is_reversed: bool) -> &'static str {
        match (self.has_unicode, is_reversed) {
            (true, false) => "↓",
            (true, true) => "↑",
            (false, false) => "v",
            (false, true) => "^",
        }
    }

    pub(super) const fn more(self) -> char {
        if self.has_unicode { '…' } else { '~' }
    }
}
