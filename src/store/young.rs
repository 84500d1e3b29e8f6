//! Changes of the index that stand in the log and not yet in the engine.
//!
//! There are two layers of them: the newest, which every commit changes, and the one that is being written to the
//! engine. Whoever reads looks into the newest first, then into the other one, then into the engine.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::Change;
use super::index::Order;

/// What a change takes in memory beside its key and value.
const AROUND_A_CHANGE: usize = 40;

/// Changes that belong together.
#[derive(Debug, Default)]
pub struct Layer {
    pub changes: BTreeSet<Change>,
    memory: usize,
    /// Bytes of keys and values, wherever they are.
    weight: u64,
    /// When the first of them was made.
    since: Option<Instant>,
}

/// All that the engine lacks.
#[derive(Debug, Default)]
pub struct Young {
    newest: Layer,
    settling: Option<Arc<Layer>>,
}

/// Keys from one (inclusive) to another (exclusive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

/// What the young layers have in the first part of a span, as one goes through it.
#[derive(Debug)]
pub struct Part {
    /// In the order of the walk.
    pub changes: Vec<Change>,
    /// The part of the span of which these are all changes.
    pub covered: Span,
    /// What lies behind it.
    pub rest: Option<Span>,
}

impl Layer {
    /// Takes the changes of a commit over, of which so much memory is kept.
    fn put(&mut self, changes: Vec<Change>, memory: usize) {
        self.memory += memory;
        for change in changes {
            self.weight += change.weight();
            if self.changes.replace(change).is_none() {
                self.memory += AROUND_A_CHANGE;
            }
        }
    }
}

impl Young {
    /// The last change of a key; `None` where only the engine can tell.
    pub fn get(&self, key: &[u8]) -> Option<&Change> {
        let older = || self.settling.as_ref().and_then(|layer| layer.changes.get(key));
        self.newest.changes.get(key).or_else(older)
    }

    /// Takes the changes of one more commit over, as `Change::of` gives them.
    pub fn put(&mut self, (changes, memory): (Vec<Change>, usize)) {
        self.newest.since.get_or_insert_with(Instant::now);
        self.newest.put(changes, memory);
    }

    /// Begins to settle: from here on changes go to a new layer. `None` where there is nothing to settle.
    pub fn begin(&mut self) -> Option<Arc<Layer>> {
        if self.settling.is_none() && !self.newest.changes.is_empty() {
            self.settling = Some(Arc::new(std::mem::take(&mut self.newest)));
        }
        self.settling.clone()
    }

    /// What `begin` gave stands in the engine.
    pub fn settled(&mut self) {
        self.settling = None;
    }

    /// For how long the first change has been waiting that is not being settled.
    pub fn age(&self) -> Option<Duration> {
        self.newest.since.map(|since| since.elapsed())
    }

    /// Whether a layer is being written to the engine.
    pub fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// Memory of the newest layer.
    pub fn newest_memory(&self) -> usize {
        self.newest.memory
    }

    /// Memory of all layers.
    pub fn memory(&self) -> usize {
        self.newest.memory + self.settling.as_ref().map_or(0, |layer| layer.memory)
    }

    /// Bytes of keys and values in all layers, which the engine will need room for.
    pub fn weight(&self) -> u64 {
        self.newest.weight + self.settling.as_ref().map_or(0, |layer| layer.weight)
    }

    /// The first part of a span with about so many changes at most.
    pub fn part(&self, span: &Span, order: Order, most: usize) -> Part {
        let mut changes: BTreeSet<&Change> = BTreeSet::new();
        let mut edge: Option<&[u8]> = None;
        // The newest comes first, and what it has stays.
        for layer in [&self.newest].into_iter().chain(self.settling.as_deref()) {
            let bounds = (Bound::Included(span.from.as_slice()), Bound::Excluded(span.to.as_slice()));
            let mut range = layer.changes.range::<[u8], _>(bounds);
            let step = || match order {
                Order::Up => range.next(),
                Order::Down => range.next_back(),
            };
            let taken: Vec<_> = std::iter::from_fn(step).take(most).collect();
            // A layer that gave all it may give is known up to its last key only.
            let last = taken.last().filter(|_| taken.len() == most).map(|change| change.key());
            edge = edge.into_iter().chain(last).min_by(|a, b| order.compare(a, b));
            for change in taken {
                changes.insert(change);
            }
        }
        let inside = |key: &[u8]| edge.is_none_or(|edge| order.compare(key, edge).is_le());
        let mut changes: Vec<Change> = changes.into_iter().filter(|change| inside(change.key())).cloned().collect();
        if order == Order::Down {
            changes.reverse();
        }
        let Some(edge) = edge else { return Part { changes, covered: span.clone(), rest: None } };
        let (lower, upper) = match order {
            // The key that comes right behind the edge.
            Order::Up => span.cut([edge, &[0]].concat()),
            Order::Down => span.cut(edge.to_vec()),
        };
        let (covered, rest) = if order == Order::Up { (lower, upper) } else { (upper, lower) };
        Part { changes, covered, rest: Some(rest) }
    }
}

impl Span {
    /// The keys before a key, and those from it on.
    fn cut(&self, at: Vec<u8>) -> (Self, Self) {
        (Self { from: self.from.clone(), to: at.clone() }, Self { from: at, to: self.to.clone() })
    }

    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::store::overlay::Overlay;

    type Shown = (Vec<u8>, Option<Vec<u8>>);

    fn changes(text: &str) -> Vec<Shown> {
        let one = |word: &str| match word.split_once('=') {
            Some((key, value)) => (key.into(), Some(value.into())),
            None => (word.into(), None),
        };
        text.split_whitespace().map(one).collect()
    }

    fn shown(change: &Change) -> Shown {
        (change.key().to_vec(), change.value().unwrap().map(Cow::into_owned))
    }

    fn overlay(text: &str) -> Overlay {
        Overlay { changes: changes(text).into_iter().collect() }
    }

    /// The changes and one more, under a key that lies outside of all spans here.
    fn put(young: &mut Young, text: &str) {
        young.put(Change::of(&overlay(text), (b"~", b"!"), None));
    }

    fn span(from: &str, to: &str) -> Span {
        Span { from: from.into(), to: to.into() }
    }

    #[test]
    fn parts_hold_everything_up_to_their_edge_and_the_newest_counts() {
        let mut young = Young::default();
        put(&mut young, "a=1 c=1 e=1 g=1 i=1");
        young.begin().unwrap();
        put(&mut young, "b=2 c e=2 h=2");
        let table = [
            (Order::Up, 2, "a=1 b=2 c", span("a", "c\0"), Some(span("c\0", "z"))),
            (Order::Up, 3, "a=1 b=2 c e=2", span("a", "e\0"), Some(span("e\0", "z"))),
            (Order::Up, 9, "a=1 b=2 c e=2 g=1 h=2 i=1", span("a", "z"), None),
            (Order::Down, 1, "i=1", span("i", "z"), Some(span("a", "i"))),
            (Order::Down, 2, "i=1 h=2 g=1", span("g", "z"), Some(span("a", "g"))),
            (Order::Down, 9, "i=1 h=2 g=1 e=2 c b=2 a=1", span("a", "z"), None),
        ];
        for (order, most, found, covered, rest) in table {
            let part = young.part(&span("a", "z"), order, most);
            let seen: Vec<Shown> = part.changes.iter().map(shown).collect();
            assert_eq!((seen, part.covered, part.rest), (changes(found), covered, rest), "{order:?} {most}");
        }
        let value = |young: &Young, key: &[u8]| young.get(key).map(shown).map(|(_, value)| value);
        assert_eq!(value(&young, b"c"), Some(None), "it is gone, whatever the engine has");
        assert_eq!(value(&young, b"d"), None);
        young.settled();
        assert_eq!(value(&young, b"a"), None);
        assert_eq!(value(&young, b"b"), Some(Some(b"2".to_vec())));
    }

    #[test]
    fn what_is_held_in_memory_is_counted() {
        let mut young = Young::default();
        let commit = Change::of(&overlay(""), (b"", b""), None).1;
        put(&mut young, "a=1 b=22");
        assert_eq!((young.memory(), young.weight()), (7 + commit + 3 * AROUND_A_CHANGE, 7));
        put(&mut young, "b");
        // What was replaced goes with the memory of the commit that brought it.
        assert_eq!(young.memory(), 10 + 2 * commit + 3 * AROUND_A_CHANGE);
        young.begin().unwrap();
        assert_eq!((young.newest_memory(), young.memory()), (0, 10 + 2 * commit + 3 * AROUND_A_CHANGE));
        young.settled();
        assert_eq!((young.memory(), young.weight()), (0, 0));
        assert!(young.begin().is_none(), "there is nothing to settle");
    }
}
