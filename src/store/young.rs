//! Changes of the index that stand in the log and not yet in the engine.
//!
//! There are two layers of them: the newest, which every commit changes, and the one that is being written to the
//! engine. Whoever reads looks into the newest first, then into the other one, then into the engine.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::index::Order;
use super::overlay::Overlay;

/// A key with its new value; `None` is a key that goes away.
pub type Change = (Bytes, Option<Bytes>);

/// What a change takes in memory beside its key and value.
const AROUND_A_CHANGE: usize = 96;

/// Changes that belong together.
#[derive(Debug, Default)]
pub struct Layer {
    pub changes: BTreeMap<Bytes, Option<Bytes>>,
    bytes: usize,
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
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// In the order of the walk.
    pub changes: Vec<Change>,
    /// The part of the span of which these are all changes.
    pub covered: Span,
    /// What lies behind it.
    pub rest: Option<Span>,
}

impl Layer {
    /// Takes the changes of a commit over. All its keys and values stand in one piece of memory, which goes back as one:
    /// thousands of small pieces that live for seconds would leave holes between those that live for a moment.
    fn put(&mut self, overlay: &Overlay) {
        let mut whole = Vec::with_capacity(overlay.changes.iter().map(|(key, value)| key.len() + len(value)).sum());
        for (key, value) in &overlay.changes {
            whole.extend_from_slice(key);
            whole.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        self.bytes += whole.len();
        let mut rest = Bytes::from(whole);
        for (key, value) in &overlay.changes {
            let (key, bytes) = (rest.split_to(key.len()), rest.split_to(len(value)));
            if self.changes.insert(key, value.as_ref().map(|_| bytes)).is_none() {
                self.bytes += AROUND_A_CHANGE;
            }
        }
    }
}

impl Young {
    /// The last change of a key; `None` where only the engine can tell.
    pub fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        let older = || self.settling.as_ref().and_then(|layer| layer.changes.get(key));
        self.newest.changes.get(key).or_else(older)
    }

    /// Takes the changes of one more commit over.
    pub fn put(&mut self, overlay: &Overlay) {
        self.newest.since.get_or_insert_with(Instant::now);
        self.newest.put(overlay);
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
    pub fn newest_bytes(&self) -> usize {
        self.newest.bytes
    }

    /// Memory of all layers.
    pub fn bytes(&self) -> usize {
        self.newest.bytes + self.settling.as_ref().map_or(0, |layer| layer.bytes)
    }

    /// The first part of a span with about so many changes at most.
    pub fn part(&self, span: &Span, order: Order, most: usize) -> Part {
        let mut changes = BTreeMap::new();
        let mut edge: Option<&Bytes> = None;
        // The newest comes last, and so its changes replace older ones.
        for layer in self.settling.as_deref().into_iter().chain([&self.newest]) {
            let bounds = (Bound::Included(span.from.as_slice()), Bound::Excluded(span.to.as_slice()));
            let mut range = layer.changes.range::<[u8], _>(bounds);
            let step = || match order {
                Order::Up => range.next(),
                Order::Down => range.next_back(),
            };
            let taken: Vec<_> = std::iter::from_fn(step).take(most).collect();
            // A layer that gave all it may give is known up to its last key only.
            let last = taken.last().filter(|_| taken.len() == most).map(|(key, _)| *key);
            edge = edge.into_iter().chain(last).min_by(|a, b| order.compare(a, b));
            changes.extend(taken);
        }
        let inside = |key: &[u8]| edge.is_none_or(|edge| order.compare(key, edge).is_le());
        let mut changes: Vec<Change> = changes
            .into_iter()
            .filter(|(key, _)| inside(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if order == Order::Down {
            changes.reverse();
        }
        let Some(edge) = edge else { return Part { changes, covered: span.clone(), rest: None } };
        let (lower, upper) = match order {
            // The key that comes right behind the edge.
            Order::Up => span.cut([&edge[..], &[0]].concat()),
            Order::Down => span.cut(edge.to_vec()),
        };
        let (covered, rest) = if order == Order::Up { (lower, upper) } else { (upper, lower) };
        Part { changes, covered, rest: Some(rest) }
    }
}

fn len(value: &Option<Vec<u8>>) -> usize {
    value.as_ref().map_or(0, Vec::len)
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
    use super::*;

    fn changes(text: &'static str) -> Vec<Change> {
        let one = |word: &'static str| match word.split_once('=') {
            Some((key, value)) => (Bytes::from(key), Some(Bytes::from(value))),
            None => (Bytes::from(word), None),
        };
        text.split_whitespace().map(one).collect()
    }

    fn commit(text: &'static str) -> Overlay {
        let changes = changes(text).into_iter().map(|(key, value)| (key.to_vec(), value.map(|value| value.to_vec())));
        Overlay { changes: changes.collect() }
    }

    fn span(from: &str, to: &str) -> Span {
        Span { from: from.into(), to: to.into() }
    }

    #[test]
    fn parts_hold_everything_up_to_their_edge_and_the_newest_counts() {
        let mut young = Young::default();
        young.put(&commit("a=1 c=1 e=1 g=1 i=1"));
        young.begin().unwrap();
        young.put(&commit("b=2 c e=2 h=2"));
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
            assert_eq!(part, Part { changes: changes(found), covered, rest }, "{order:?} {most}");
        }
        assert_eq!(young.get(b"c"), Some(&None), "it is gone, whatever the engine has");
        assert_eq!(young.get(b"d"), None);
        young.settled();
        assert_eq!(young.get(b"a"), None);
        assert_eq!(young.get(b"b"), Some(&Some(Bytes::from("2"))));
    }

    #[test]
    fn what_is_held_in_memory_is_counted() {
        let mut young = Young::default();
        young.put(&commit("a=1 b=22"));
        assert_eq!(young.bytes(), 5 + 2 * AROUND_A_CHANGE);
        young.put(&commit("b"));
        // What was replaced goes with the memory of the commit that brought it.
        assert_eq!(young.bytes(), 6 + 2 * AROUND_A_CHANGE);
        young.begin().unwrap();
        assert_eq!((young.newest_bytes(), young.bytes()), (0, 6 + 2 * AROUND_A_CHANGE));
        young.settled();
        assert_eq!(young.bytes(), 0);
        assert!(young.begin().is_none(), "there is nothing to settle");
    }
}
