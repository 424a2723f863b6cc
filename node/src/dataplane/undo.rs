//! Taking back what a run did, if it does not come to its end.

/// Steps that take something back, run last first when this is dropped, unless it was kept.
#[derive(Default)]
pub(crate) struct Undo {
    steps: Vec<Box<dyn FnOnce()>>,
}

impl Undo {
    /// Remembers how to take back what was done just now.
    pub(crate) fn push(&mut self, step: impl FnOnce() + 'static) {
        self.steps.push(Box::new(step));
    }

    /// All went well: nothing is taken back.
    pub(crate) fn keep(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(step) = self.steps.pop() {
            step();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Undo;
    use std::{cell::RefCell, rc::Rc};

    #[test]
    fn takes_back_last_first_unless_kept() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let note = |number| {
            let log = Rc::clone(&log);
            move || log.borrow_mut().push(number)
        };
        let mut undo = Undo::default();
        undo.push(note(1));
        undo.push(note(2));
        drop(undo);
        assert_eq!(*log.borrow(), [2, 1]);

        let mut undo = Undo::default();
        undo.push(note(3));
        undo.keep();
        assert_eq!(*log.borrow(), [2, 1]);
    }
}
