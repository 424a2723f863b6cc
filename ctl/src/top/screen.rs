//! What is on the screen: the fleet as it was last told, and where the operator looks.

use std::{cmp::Ordering, time::Duration};

use weir_proto::admin::v1;

use super::{history::History, look::Look};
use crate::view::{LimitState, Member, NodeLimit, NodeLimits, Overview};

/// Heaviest sources that are asked for.
const SOURCES: u32 = 40;
/// Pages that Esc goes back through. The oldest goes.
const PAGES_REMEMBERED: usize = 16;

/// All that is needed to draw.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(super) look: Look,
    /// `None` before the first answer.
    pub(super) overview: Option<Overview>,
    pub(super) history: History,
    /// Never empty; the last is shown.
    pub(super) pages: Vec<Page>,
    /// What is typed after `/`; `None` unless it is.
    pub(super) typed: Option<String>,
    pub(super) is_helping: bool,
    pub(super) is_paused: bool,
    pub(super) interval: Duration,
    /// Why there was no answer the last time.
    pub(super) trouble: Option<String>,
}

/// A page, and what is done to its table.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) kind: Kind,
    /// The name under the cursor: it stays there when rows move.
    pub(super) selected: Option<String>,
    pub(super) filter: String,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
}

/// What a page is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All limits; of the selected one nodes and sources.
    Limits,
    /// One limit: its past, and every node's share of it.
    Limit(String),
    /// All members.
    Nodes,
    /// One member: what it holds of every limit.
    Node(String),
}

/// What rows are in order of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// As the daemon says: limits as in their document, nodes by name.
    Given,
    Name,
    /// The part of the budget.
    Used,
    Offered,
    Admitted,
    Dropped,
}

impl Sort {
    const ALL: [Self; 6] = [
        Self::Given,
        Self::Dropped,
        Self::Offered,
        Self::Admitted,
        Self::Used,
        Self::Name,
    ];

    /// The one after it.
    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self);
        let at = at.expect("ALL has every sort");
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Given => "",
            Self::Name => "name",
            Self::Used => "used",
            Self::Offered => "offered",
            Self::Admitted => "admitted",
            Self::Dropped => "dropped",
        }
    }
}

/// A row of the page's table, as far as it is found and sorted by.
struct Row<'a> {
    /// Its place in what the daemon said.
    index: usize,
    name: &'a str,
    used: f64,
    offered: f64,
    admitted: f64,
    dropped: f64,
}

impl Page {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            selected: None,
            filter: String::new(),
            sort: Sort::Given,
            is_reversed: false,
        }
    }
}

impl Screen {
    /// Nothing is known yet.
    pub(crate) fn new(look: Look, interval: Duration, limit: Option<String>) -> Self {
        let limit = limit.map(|name| Page::new(Kind::Limit(name)));
        Self {
            look,
            overview: None,
            history: History::default(),
            pages: [Page::new(Kind::Limits)].into_iter().chain(limit).collect(),
            typed: None,
            is_helping: false,
            is_paused: false,
            interval,
            trouble: None,
        }
    }

    /// A tick: what the fleet said. Another answer within a tick does not count as past.
    pub(crate) fn observe(&mut self, overview: Overview, is_tick: bool) {
        self.trouble = None;
        if is_tick {
            self.history.observe(&overview.limits);
        }
        self.overview = Some(overview);
    }

    /// There was no answer.
    pub(crate) fn fail(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// What has to be asked for this page.
    pub(crate) fn wants(&self) -> v1::OverviewRequest {
        let (limit, node) = match &self.page().kind {
            Kind::Limits => (
                self.selected().unwrap_or_default().to_owned(),
                String::new(),
            ),
            Kind::Limit(limit) => (limit.clone(), String::new()),
            Kind::Nodes => (String::new(), String::new()),
            Kind::Node(node) => (String::new(), node.clone()),
        };
        v1::OverviewRequest {
            limit,
            node,
            top: SOURCES,
        }
    }

    /// Whether what this page needs is not what was asked last.
    pub(crate) fn wants_another_than(&self, asked: &v1::OverviewRequest) -> bool {
        self.overview.is_some() && self.wants() != *asked
    }

    /// The pause between two ticks; `None` while the operator wants none.
    pub(crate) fn interval(&self) -> Option<Duration> {
        (!self.is_paused).then_some(self.interval)
    }

    pub(super) fn page(&self) -> &Page {
        self.pages.last().expect("the first page is never left")
    }

    pub(super) fn page_mut(&mut self) -> &mut Page {
        self.pages.last_mut().expect("the first page is never left")
    }

    pub(super) fn open(&mut self, kind: Kind) {
        if self.page().kind == kind {
            return;
        }
        if self.pages.len() == PAGES_REMEMBERED {
            self.pages.remove(1);
        }
        self.pages.push(Page::new(kind));
    }

    /// The limit with this name.
    pub(super) fn limit(&self, name: &str) -> Option<&LimitState> {
        let limits = &self.overview.as_ref()?.limits;
        limits.iter().find(|state| state.limit.name == name)
    }

    /// Every node's part of a limit, as far as it was asked for.
    pub(super) fn shares(&self, limit: &str) -> Vec<(&NodeLimits, &NodeLimit)> {
        let nodes = self.overview.iter().flat_map(|overview| &overview.nodes);
        let share = |node: &NodeLimits| node.limits.iter().position(|share| share.limit == limit);
        nodes
            .filter_map(|node| Some((node, &node.limits[share(node)?])))
            .collect()
    }

    /// What a member holds of every limit, as far as it was asked for.
    pub(super) fn held(&self, node: &str) -> &[NodeLimit] {
        let nodes = self.overview.iter().flat_map(|overview| &overview.nodes);
        let mut named = nodes.filter(|row| row.node.name == node);
        named.next().map_or(&[][..], |row| &row.limits)
    }

    /// The rows of the page's table that pass its filter, in its order, by their place.
    pub(super) fn listed(&self) -> Vec<usize> {
        self.rows().into_iter().map(|row| row.index).collect()
    }

    /// The name under the cursor, which is on the first row until it is moved.
    pub(super) fn selected(&self) -> Option<&str> {
        let rows = self.rows();
        let at = self.cursor_in(&rows);
        rows.get(at).map(|row| row.name)
    }

    /// The cursor's row among [`Self::listed`].
    pub(super) fn cursor(&self) -> usize {
        self.cursor_in(&self.rows())
    }

    /// Moves the cursor by so many rows, no further than the table goes.
    pub(super) fn move_cursor(&mut self, rows: isize) {
        let all = self.rows();
        let last = all.len().saturating_sub(1);
        let to = self.cursor_in(&all).saturating_add_signed(rows).min(last);
        let name = all.get(to).map(|row| row.name.to_owned());
        self.page_mut().selected = name;
    }

    fn cursor_in(&self, rows: &[Row<'_>]) -> usize {
        let selected = self.page().selected.as_deref();
        let at = rows.iter().position(|row| Some(row.name) == selected);
        at.unwrap_or(0)
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let page = self.page();
        let filter = page.filter.to_lowercase();
        let mut rows = self.all_rows();
        rows.retain(|row| row.name.to_lowercase().contains(&filter));
        let descending = |a: f64, b: f64| b.total_cmp(&a);
        let order = |a: &Row<'_>, b: &Row<'_>| match page.sort {
            Sort::Given => Ordering::Equal,
            Sort::Name => a.name.cmp(b.name),
            Sort::Used => descending(a.used, b.used),
            Sort::Offered => descending(a.offered, b.offered),
            Sort::Admitted => descending(a.admitted, b.admitted),
            Sort::Dropped => descending(a.dropped, b.dropped),
        };
        rows.sort_by(|a, b| order(a, b).then(a.index.cmp(&b.index)));
        if page.is_reversed {
            rows.reverse();
        }
        rows
    }

    fn all_rows(&self) -> Vec<Row<'_>> {
        let Some(overview) = &self.overview else {
            return Vec::new();
        };
        let of_share = |name, share: &NodeLimit| Row {
            index: 0,
            name,
            used: part(share.share, share.rate),
            offered: share.offered,
            admitted: share.admitted,
            dropped: share.dropped,
        };
        let mut rows: Vec<Row<'_>> = match &self.page().kind {
            Kind::Limits => overview.limits.iter().map(Row::of_limit).collect(),
            Kind::Limit(limit) => {
                let shares = self.shares(limit).into_iter();
                shares
                    .map(|(node, share)| of_share(node.node.name.as_str(), share))
                    .collect()
            }
            Kind::Nodes => overview.members.iter().map(Row::of_member).collect(),
            Kind::Node(node) => {
                let held = self.held(node).iter();
                held.map(|share| of_share(share.limit.as_str(), share))
                    .collect()
            }
        };
        for (index, row) in rows.iter_mut().enumerate() {
            row.index = index;
        }
        rows
    }
}

impl<'a> Row<'a> {
    fn of_limit(LimitState { limit, .. }: &'a LimitState) -> Self {
        Self {
            index: 0,
            name: &limit.name,
            used: part(limit.admitted, limit.rate),
            offered: limit.offered,
            admitted: limit.admitted,
            dropped: limit.dropped,
        }
    }

    fn of_member(member: &'a Member) -> Self {
        Self {
            index: 0,
            name: &member.node.name,
            used: 0.0,
            offered: 0.0,
            admitted: 0.0,
            dropped: 0.0,
        }
    }
}

/// What part of a whole that is.
pub(super) fn part(amount: f64, whole: f64) -> f64 {
    if whole > 0.0 { amount / whole } else { 0.0 }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
pub(super) mod tests;
