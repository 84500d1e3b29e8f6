//! The index: what the log's commits add up to, read as one from memory and from an engine that lags behind.
//!
//! Must not know: when changes settle.

use std::borrow::Cow;
use std::cmp::Ordering as Compared;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::change::{Change, Written};
use super::engine::{Engine, Range, Unopened};
use super::error::StoreError;
use super::layers::Layers;
use super::overlay::Overlay;
use super::rows::Position;
use super::shared::Shared;
use super::young::Span;
use super::{Config, keys};

/// How many changes in memory a walk looks at in its first part, and in later ones at most.
const FIRST_PART: usize = 16;
const LARGEST_PART: usize = 1024;

/// The open index.
pub struct Index {
    layers: Arc<Layers>,
    /// The thread that settles changes, once it was started.
    settler: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

impl Index {
    /// Opens the index in its directory, or makes it.
    pub fn open(dir: &Path, config: &Config) -> Result<Self, Unopened> {
        let engine = Engine::open(dir, config.cache_bytes)?;
        let buffer = usize::try_from(config.index_buffer_bytes).unwrap_or(usize::MAX);
        Ok(Self { layers: Arc::new(Layers::new(engine, buffer)), settler: None })
    }

    /// Starts the thread that settles changes. Trouble stops the store.
    pub fn start(&mut self, shared: Arc<Shared>) -> io::Result<()> {
        let layers = Arc::clone(&self.layers);
        let thread = std::thread::Builder::new().name("index".into()).spawn(move || {
            if let Err(error) = layers.settle_until_stopped() {
                // The log has the commits and the engine may not: only opening anew completes it.
                shared.break_off(error.said());
            }
        })?;
        self.settler = Some(thread);
        Ok(())
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // Reading the log takes longer than the state may be held.
        let young = self.layers.state().young.get(key).cloned();
        if let Some(change) = young {
            return Ok(change.value()?.map(Cow::into_owned));
        }
        // What settles in between is as old as the look into memory, or newer.
        self.layers.engine.get(key)
    }

    /// The number under a key; 0 where there is none.
    pub fn number(&self, key: &[u8]) -> Result<u64, StoreError> {
        Ok(self.get(key)?.as_deref().map_or(0, number))
    }

    /// Applies the changes of one commit as a whole. Waits where memory is full of others that settle. Long values are
    /// read from the commit's record if it is said where that lies, and kept in memory otherwise.
    pub fn apply(&self, overlay: &Overlay, applied: Position, written: Option<Written>) -> Result<(), StoreError> {
        self.layers.put(overlay, (keys::APPLIED, &applied.0.to_be_bytes()), written)
    }

    /// Applies changes to the engine itself, without syncing them: for a rebuild, which syncs at its end.
    pub fn load(&self, overlay: &Overlay, applied: Position) -> Result<(), StoreError> {
        let mark = applied.0.to_be_bytes();
        let changes = overlay.changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        self.layers.engine.load(changes.chain([(keys::APPLIED, Some(&mark[..]))]))
    }

    /// Syncs what was loaded.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.layers.engine.sync()
    }

    /// Writes to the engine whatever it lacks, and returns when that is on disk.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.layers.settle()
    }

    /// Calls `visit` for the keys of a range, in order, or backwards, until it answers `false`.
    pub fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        order: Order,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut span = Span { from: from.to_vec(), to: to.to_vec() };
        let mut most = FIRST_PART;
        while !span.is_empty() {
            // Memory is copied first: what settles from then on is in the engine by the time that it is looked at.
            let part = self.layers.state().young.part(&span, order, most);
            let engine = self.layers.engine.range(&part.covered.from, &part.covered.to, order);
            if !merged(part.changes, engine, order, &mut visit)? {
                break;
            }
            let Some(rest) = part.rest else { break };
            span = rest;
            most = (most * 4).min(LARGEST_PART);
        }
        Ok(())
    }

    /// Calls `visit` for every key with this prefix.
    pub fn walk_prefix(
        &self,
        prefix: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut end = prefix.to_vec();
        // No prefix of ours ends in 0xff throughout, as all begin with a letter.
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        self.walk(prefix, &end, Order::Up, visit)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.layers.engine.bytes()
    }

    /// Bytes that the engine lacks and will need space for.
    pub fn unsettled(&self) -> u64 {
        self.layers.weight()
    }

    /// How long settling took since the start, in nanoseconds.
    pub fn nanos(&self) -> u64 {
        self.layers.nanos()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.layers.stop();
        if let Some(thread) = self.settler.take() {
            let _ = thread.join();
        }
    }
}

/// Shows what is in memory and in the engine as one; `false` when the visitor has seen enough.
fn merged(
    young: Vec<Change>,
    engine: Range<'_>,
    order: Order,
    visit: &mut impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let (mut young, mut engine) = (young.into_iter().peekable(), engine.peekable());
    loop {
        let first = match (young.peek(), engine.peek()) {
            (None, None) => return Ok(true),
            (_, Some(Err(error))) => return Err(error.clone()),
            (Some(_), None) => Compared::Less,
            (None, Some(_)) => Compared::Greater,
            (Some(change), Some(Ok((old, _)))) => order.compare(change.key(), old),
        };
        // What is in memory replaces what the engine has under the same key.
        let older = if first.is_ge() { engine.next().transpose()? } else { None };
        let newer = if first.is_le() { young.next() } else { None };
        let goes_on = match (&newer, older) {
            (Some(change), _) => change.value()?.map_or(Ok(true), |value| visit(change.key(), &value))?,
            (None, Some((key, value))) => visit(&key, &value)?,
            (None, None) => true,
        };
        if !goes_on {
            return Ok(false);
        }
    }
}

/// Which way a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Up,
    Down,
}

impl Order {
    /// Which of two keys such a walk comes to first.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Compared {
        match self {
            Self::Up => a.cmp(b),
            Self::Down => b.cmp(a),
        }
    }
}

/// A number as the index keeps it.
pub fn number(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn commit(index: &Index, model: &mut Model, at: u64, changes: &[(u8, Option<u8>)]) {
        let mut overlay = Overlay::default();
        for (key, value) in changes {
            let key = vec![b'k', *key];
            match value {
                Some(value) => {
                    model.insert(key.clone(), vec![*value; 40]);
                    overlay.put(key, vec![*value; 40]).unwrap();
                }
                None => {
                    model.remove(&key);
                    overlay.delete(key);
                }
            }
        }
        index.apply(&overlay, Position(at), None).unwrap();
    }

    fn walked(index: &Index, from: u8, to: u8, order: Order, most: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let visit = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(found.len() < most)
        };
        index.walk(&[b'k', from], &[b'k', to], order, visit).unwrap();
        found
    }

    fn expected(model: &Model, from: u8, to: u8, order: Order, most: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pairs = model.iter().map(|(key, value)| (key.clone(), value.clone()));
        let mut inside: Vec<_> = pairs.filter(|(key, _)| (from..to).contains(&key[1])).collect();
        if order == Order::Down {
            inside.reverse();
        }
        inside.truncate(most);
        inside
    }

    /// One commit, what happens behind it, and where is looked.
    type Turn = (Vec<(u8, Option<u8>)>, u8, u8, u8);

    fn turns() -> impl Strategy<Value = Vec<Turn>> {
        let changes = vec((any::<u8>(), any::<Option<u8>>()), 1..30);
        vec((changes, 0u8..12, any::<u8>(), any::<u8>()), 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn memory_and_engine_read_as_one(turns in turns()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("index");
            let mut index = Index::open(&path, &Config::default()).unwrap();
            let mut model = Model::new();
            for (at, (changes, act, from, to)) in (1..).zip(turns) {
                commit(&index, &mut model, at, &changes);
                match act {
                    0 => index.settle().unwrap(),
                    1 => {
                        // A layer that is on its way to the engine, and is in part there already.
                        let layer = index.layers.state().young.begin().unwrap();
                        let some: Vec<&Change> = layer.changes.iter().take(20).collect();
                        index.layers.load(&some).unwrap();
                    }
                    2 => {
                        index.settle().and_then(|()| index.settle()).unwrap();
                        drop(index);
                        index = Index::open(&path, &Config::default()).unwrap();
                        assert_eq!(index.number(keys::APPLIED), Ok(at));
                    }
                    _ => {}
                }
                for order in [Order::Up, Order::Down] {
                    for most in [1, 20, 300] {
                        let want = expected(&model, from, to, order, most);
                        prop_assert_eq!(walked(&index, from, to, order, most), want, "{}: {:?}", at, order);
                    }
                }
                let key = [b'k', from];
                prop_assert_eq!(index.get(&key).unwrap(), model.get(&key[..]).cloned());
            }
        }
    }

    #[test]
    fn what_did_not_settle_as_a_whole_has_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = Index::open(&path, &Config::default()).unwrap();
        let mut model = Model::new();
        commit(&index, &mut model, 1, &[(1, Some(1))]);
        index.settle().unwrap();
        commit(&index, &mut model, 2, &[(1, Some(2))]);
        assert_eq!(index.number(keys::APPLIED), Ok(2));
        drop(index);
        let index = Index::open(&path, &Config::default()).unwrap();
        assert_eq!(index.number(keys::APPLIED), Ok(1), "the log has the second one");
    }

    #[test]
    fn commits_wait_for_room_and_the_thread_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut index =
            Index::open(&dir.path().join("index"), &Config { index_buffer_bytes: 1000, ..Config::default() }).unwrap();
        let mut model = Model::new();
        index.start(Arc::new(Shared::new())).unwrap();
        for at in 1..=2000_u64 {
            commit(&index, &mut model, at, &[(at as u8, Some(1)), ((at >> 8) as u8, None)]);
        }
        assert_eq!(walked(&index, 0, 255, Order::Up, 999), expected(&model, 0, 255, Order::Up, 999));
        // The thread was told long ago, and comes to it as soon as it is given a processor.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while index.nanos() == 0 {
            assert!(std::time::Instant::now() < end, "none of it has settled");
            std::thread::yield_now();
        }
    }
}
