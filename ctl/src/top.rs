//! `weir top`'s screen: its state, what keys do to it, and how it looks.
//!
//! The state knows no terminal and no clock; drawing changes nothing. What connects them to both is
//! the command.

mod draw;
mod history;
mod keys;
mod look;
mod screen;

pub(crate) use draw::draw;
pub(crate) use keys::Outcome;
pub(crate) use look::Look;
pub(crate) use screen::Screen;
