//! The states that were visited: a fingerprint each, and where each was come to from.

/// A table of fingerprints with open addressing: 16 bytes a slot, at most three quarters full.
#[derive(Debug)]
pub struct Visited {
    slots: Vec<(u64, u64)>,
    count: usize,
    slots_max: usize,
}

/// The table is full, so exploring further would not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Visited {
    /// A table that grows up to so many bytes, and no less than one page.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let slots_max = (bytes_max / size_of::<(u64, u64)>()).max(256);
        // The largest power of two within the bound.
        let slots_max = 1 << slots_max.ilog2();
        Self {
            slots: vec![(0, 0); 256.min(slots_max)],
            count: 0,
            slots_max,
        }
    }

    /// How many states there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts a state in, with the one it was come to from (0: it is the first); `false` if it was
    /// there.
    ///
    /// # Errors
    ///
    /// If there is no room for a new one.
    pub fn insert(&mut self, print: u64, from: u64) -> Result<bool, Full> {
        let slot = self.slot(print);
        if self.slots[slot].0 == print {
            return Ok(false);
        }
        if (self.count + 1) * 4 > self.slots.len() * 3 {
            if self.slots.len() >= self.slots_max {
                return Err(Full);
            }
            self.grow();
            return self.insert(print, from);
        }
        self.slots[slot] = (print, from);
        self.count += 1;
        Ok(true)
    }

    /// The way from the first state to this one, both included.
    #[must_use]
    pub fn way_to(&self, print: u64) -> Vec<u64> {
        let mut way = vec![print];
        let mut at = print;
        loop {
            let (_, from) = self.slots[self.slot(at)];
            if from == 0 {
                break;
            }
            way.push(from);
            at = from;
        }
        way.reverse();
        way
    }

    fn slot(&self, print: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = print as usize & mask;
        while self.slots[slot].0 != 0 && self.slots[slot].0 != print {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let double = vec![(0, 0); self.slots.len() * 2];
        let before = std::mem::replace(&mut self.slots, double);
        for entry in before.into_iter().filter(|(print, _)| *print != 0) {
            let slot = self.slot(entry.0);
            self.slots[slot] = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_kept_while_it_grows() {
        let mut visited = Visited::new(1 << 20);
        let prints: Vec<u64> = (1..10_000).map(|number| number * 0x9e37_79b9).collect();
        let mut from = 0;
        for print in &prints {
            assert_eq!(visited.insert(*print, from), Ok(true));
            assert_eq!(visited.insert(*print, 77), Ok(false));
            from = *print;
        }
        assert_eq!(visited.way_to(from), prints);
    }

    #[test]
    fn it_says_when_it_is_full() {
        let mut visited = Visited::new(256 * 16);
        let inserted = (1..1_000).take_while(|print| visited.insert(*print, 0).is_ok());
        assert_eq!(inserted.count(), 192);
        assert_eq!(visited.insert(1, 0), Ok(false), "what is there is found");
    }
}
