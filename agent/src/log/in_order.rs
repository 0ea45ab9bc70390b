//! The parts of a log, worked on by all cores and given back in order.

use std::{
    collections::VecDeque,
    thread::{self, Scope},
};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Parts under way for each core. Bounds memory.
const PARTS_PER_CORE: usize = 2;

/// Parts of a log that threads of a scope work on.
pub(super) struct InOrder<T, R> {
    parts: Sender<(T, Sender<R>)>,
    under_way: VecDeque<Receiver<R>>,
    most: usize,
}

impl<T: Send, R: Send> InOrder<T, R> {
    /// Starts a thread for each core.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        work: impl Fn(T) -> R + Copy + Send + 'scope,
    ) -> Self
    where
        T: 'scope,
        R: 'scope,
    {
        let cores = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(64);
        let most = PARTS_PER_CORE * cores;
        let (parts, todo) = bounded::<(T, Sender<R>)>(most);
        for _ in 0..cores {
            let todo = todo.clone();
            scope.spawn(move || {
                for (part, done) in todo {
                    // Nobody waits for it if the first that failed was found.
                    let _ = done.send(work(part));
                }
            });
        }
        Self {
            parts,
            under_way: VecDeque::new(),
            most,
        }
    }

    /// Has a part worked on. If as many are under way as may be, the first of them is waited for and given back.
    pub(super) fn give(&mut self, part: T) -> Option<R> {
        let first = if self.under_way.len() < self.most {
            None
        } else {
            self.next()
        };
        let (done, outcome) = bounded(1);
        let given = self.parts.send((part, done));
        given.expect("its threads end when this does");
        self.under_way.push_back(outcome);
        first
    }

    /// Waits for the first of those under way.
    pub(super) fn next(&mut self) -> Option<R> {
        let first = self.under_way.pop_front()?;
        Some(first.recv().expect("a thread that panics ends the scope"))
    }
}
