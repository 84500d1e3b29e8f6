//! The memory for mail that is under way, and how lanes share it. Pure.
//!
//! A lane may have as much as is left for all the others, so that however many hang there is room for one more; beside
//! those shares one mail at a time may lie in memory that fits into none.

use std::collections::HashMap;

use super::lanes::Task;

/// Who has how many bytes in memory.
#[derive(Clone, Debug, Default)]
pub struct Room {
    most: u64,
    used: u64,
    lanes: HashMap<u32, u64>,
    /// The one mail beside the shares.
    beside: Option<(u64, u32)>,
}

/// Whether there is room for one more mail of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Taken,
    /// The lane has its share: there is room once one of its own has ended.
    Own,
    /// Others have it.
    Others,
}

impl Room {
    /// How many bytes there are for all.
    pub fn set_most(&mut self, most: u64) {
        self.most = most;
    }

    /// Takes a place for a mail, if there is one.
    pub fn take(&mut self, task: &Task, size: u64) -> Place {
        let own = self.lanes.get(&task.lane).copied().unwrap_or(0);
        let left = self.most.saturating_sub(self.used);
        if own.saturating_add(size) <= left / 2 {
            self.used += size;
            self.lanes.insert(task.lane, own + size);
            return Place::Taken;
        }
        let alone = own == 0 || size > self.most / 4;
        if alone && self.beside.is_none() {
            self.beside = Some((task.seq, task.lane));
            return Place::Taken;
        }
        if self.has(task.lane) { Place::Own } else { Place::Others }
    }

    /// A mail has left memory.
    pub fn give_back(&mut self, task: &Task, size: u64) {
        if self.beside == Some((task.seq, task.lane)) {
            self.beside = None;
            return;
        }
        if let Some(own) = self.lanes.get_mut(&task.lane) {
            self.used -= size.min(*own);
            *own = own.saturating_sub(size);
            if *own == 0 {
                self.lanes.remove(&task.lane);
            }
        }
    }

    /// Whether a lane has something in memory.
    pub fn has(&self, lane: u32) -> bool {
        self.lanes.contains_key(&lane) || self.beside.is_some_and(|(_, other)| other == lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Class;

    const MIB: u64 = 1 << 20;

    fn task(seq: u64, lane: u32) -> Task {
        Task { seq, lane, channel: 0, class: Class::Person, due: 0, since: 0, told: false, look: 0 }
    }

    #[test]
    fn lanes_that_hang_leave_room_for_others() {
        let mut room = Room::default();
        room.set_most(32 * MIB);
        // Lane, size of each of its mails in MiB, how many of them fit while nothing ends, what the next one hears.
        let table = [
            (1, 4, 3, Place::Own),
            (2, 4, 2, Place::Own),
            (3, 4, 1, Place::Own),
            (4, 4, 1, Place::Own),
            (5, 4, 1, Place::Own),
            (6, 4, 0, Place::Others),
        ];
        let mut seq = 0;
        for (lane, size, fit, then) in table {
            let mut taken = 0;
            let heard = loop {
                seq += 1;
                match room.take(&task(seq, lane), size * MIB) {
                    Place::Taken => taken += 1,
                    heard => break heard,
                }
            };
            assert_eq!((taken, heard), (fit, then), "lane {lane}");
        }
        assert!(room.used + 4 * MIB <= room.most, "{}", room.used);
        // Small mail has room all the same.
        assert!((0..10).all(|n| room.take(&task(1000 + n, 9), 20_000) == Place::Taken));
    }

    #[test]
    fn a_mail_larger_than_all_the_room_goes_and_one_at_a_time() {
        let mut room = Room::default();
        room.set_most(MIB);
        assert_eq!(room.take(&task(1, 1), 50 * MIB), Place::Taken);
        assert_eq!(room.take(&task(2, 1), 50 * MIB), Place::Own);
        assert_eq!(room.take(&task(3, 2), 50 * MIB), Place::Others);
        assert_eq!(room.take(&task(4, 2), 1000), Place::Taken);
        room.give_back(&task(1, 1), 50 * MIB);
        assert_eq!(room.take(&task(3, 2), 50 * MIB), Place::Taken);
        room.give_back(&task(3, 2), 50 * MIB);
        room.give_back(&task(4, 2), 1000);
        assert!(room.used == 0 && room.lanes.is_empty() && !room.has(2));
    }
}
