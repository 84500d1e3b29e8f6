//! Sliding windows: how much happened in the last minutes or hours, in a few bytes, and when there is room again.
//!
//! What happened within one slot counts as if all of it had happened at the slot's last instant. So a window never
//! forgets too early; it may remember for up to the width of a slot longer. Must not know: what is counted.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// What happened in one slot: the last instant in milliseconds since 1970, how often, and how much in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    at: i64,
    count: u64,
    weight: u64,
}

/// What happened within a span, in slots of one width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    width: i64,
    span: i64,
    slots: VecDeque<Slot>,
}

/// The sums over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub count: u64,
    pub weight: u64,
}

impl Slots {
    /// Empty slots of a width, for a span; a span of 300 widths takes at most 4 KiB when it is encoded.
    pub fn new(width: SignedDuration, span: SignedDuration) -> Self {
        Self { width: millis(width).max(1), span: millis(span).max(1), slots: VecDeque::new() }
    }

    /// Notes that something happened.
    pub fn add(&mut self, now: Timestamp, count: u64, weight: u64) {
        self.forget(now);
        let at = now.as_millisecond();
        let width = self.width;
        match self.slots.back_mut() {
            // A clock that was set back counts what happens now with the latest that is known.
            Some(last) if at < last.at || last.at.div_euclid(width) == at.div_euclid(width) => {
                last.at = last.at.max(at);
                last.count = last.count.saturating_add(count);
                last.weight = last.weight.saturating_add(weight);
            }
            _ => self.slots.push_back(Slot { at, count, weight }),
        }
    }

    /// Takes back what was noted at that time, as far as it is still known.
    pub fn take_back(&mut self, noted: Timestamp, count: u64, weight: u64) {
        let at = noted.as_millisecond();
        let width = self.width;
        let found =
            self.slots.iter_mut().find(|slot| slot.at >= at || slot.at.div_euclid(width) == at.div_euclid(width));
        if let Some(slot) = found {
            slot.count = slot.count.saturating_sub(count);
            slot.weight = slot.weight.saturating_sub(weight);
        }
        self.slots.retain(|slot| slot.count > 0 || slot.weight > 0);
    }

    /// What happened within a window that ends now.
    pub fn sums(&self, now: Timestamp, window: SignedDuration) -> Sums {
        let since = now.as_millisecond() - millis(window);
        let mut sums = Sums::default();
        for slot in self.slots.iter().rev().take_while(|slot| slot.at > since) {
            sums.count = sums.count.saturating_add(slot.count);
            sums.weight = sums.weight.saturating_add(slot.weight);
        }
        sums
    }

    /// When the window has room for this much more under these limits: now, or once enough of it is past. Something
    /// that is larger than a limit by itself has room once the window is empty, for it would never have any.
    pub fn room_at(&self, now: Timestamp, window: SignedDuration, more: Sums, most: Sums) -> Timestamp {
        let mut sums = self.sums(now, window);
        let since = now.as_millisecond() - millis(window);
        let fits = |sums: Sums| {
            (sums.count == 0 && sums.weight == 0)
                || (sums.count.saturating_add(more.count) <= most.count
                    && sums.weight.saturating_add(more.weight) <= most.weight)
        };
        let mut at = now;
        for slot in self.slots.iter().filter(|slot| slot.at > since) {
            if fits(sums) {
                break;
            }
            sums.count = sums.count.saturating_sub(slot.count);
            sums.weight = sums.weight.saturating_sub(slot.weight);
            at = Timestamp::from_millisecond(slot.at + millis(window)).unwrap_or(Timestamp::MAX);
        }
        at
    }

    /// Whether nothing that is known lies within the span.
    pub fn is_empty(&self, now: Timestamp) -> bool {
        let since = now.as_millisecond() - self.span;
        self.slots.back().is_none_or(|slot| slot.at <= since)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    /// The slots as bytes: of each the time since the one before, count and weight, in base 128.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.slots.len() * 6);
        let mut before = 0;
        for slot in &self.slots {
            for number in [slot.at.saturating_sub(before).max(0) as u64, slot.count, slot.weight] {
                push_number(&mut bytes, number);
            }
            before = slot.at;
        }
        bytes
    }

    /// Takes up what `encode` wrote; bytes that are not understood end it.
    pub fn decode(mut self, mut bytes: &[u8]) -> Self {
        let mut before = 0i64;
        while let (Some(gap), Some(count), Some(weight)) =
            (take_number(&mut bytes), take_number(&mut bytes), take_number(&mut bytes))
        {
            let Some(at) = i64::try_from(gap).ok().and_then(|gap| before.checked_add(gap)) else { break };
            self.slots.push_back(Slot { at, count, weight });
            before = at;
        }
        self
    }

    fn forget(&mut self, now: Timestamp) {
        let since = now.as_millisecond() - self.span;
        while self.slots.front().is_some_and(|slot| slot.at <= since) {
            self.slots.pop_front();
        }
    }
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn seconds(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_window_slides_and_says_when_there_is_room() {
        let mut slots = Slots::new(seconds(1), seconds(300));
        for second in [0, 10, 20] {
            slots.add(at(second), 1, 100);
        }
        let minute = seconds(60);
        assert_eq!(slots.sums(at(20), minute), Sums { count: 3, weight: 300 });
        assert_eq!(slots.sums(at(60), minute), Sums { count: 2, weight: 200 });
        // More, the most, when there is room.
        let table = [
            ((1, 1), (4, 1000), 20),
            ((1, 1), (3, 1000), 60),
            ((2, 1), (3, 1000), 70),
            ((1, 200), (9, 300), 70),
            ((1, 5000), (9, 300), 80),
        ];
        for ((count, weight), (most, heaviest), room) in table {
            let (more, most) = (Sums { count, weight }, Sums { count: most, weight: heaviest });
            assert_eq!(slots.room_at(at(20), minute, more, most), at(room), "{more:?} {most:?}");
        }
        slots.take_back(at(10), 1, 100);
        assert_eq!(slots.sums(at(20), minute), Sums { count: 2, weight: 200 });
    }

    #[test]
    fn a_full_span_fits_a_row_and_reads_back() {
        let mut slots = Slots::new(seconds(1), seconds(300));
        for second in 0..900 {
            slots.add(at(second), 3_000, 50 << 20);
        }
        let bytes = slots.encode();
        assert!(bytes.len() <= 4000, "{}", bytes.len());
        assert_eq!(Slots::new(seconds(1), seconds(300)).decode(&bytes), slots);
        let mut cut = Slots::new(seconds(1), seconds(300)).decode(&bytes[..bytes.len() - 1]);
        assert_eq!(cut.slots.len() + 1, slots.slots.len());
        cut.clear();
        assert!(cut.is_empty(at(0)) && slots.is_empty(at(2000)) && !slots.is_empty(at(900)));
        // A clock that is set back loses nothing.
        slots.add(at(100), 1, 0);
        assert_eq!(slots.sums(at(900), seconds(2)).count, 3_001);
    }
}
