//! Cuts rows so that no mail, however hostile, makes one that the engine cannot keep safely.
//!
//! Sizes are those of the JSON text, where one control character takes six bytes.

use super::overlay::MAX_VALUE;
use super::rows::{EntryRow, TicketRow};

/// The most that is kept of a writer's name, of a note, and of what is said about a connection.
pub const AUTHOR: usize = 200;
pub const NOTE: usize = 2400;
pub const SAID: usize = 500;
const MESSAGE_ID: usize = 500;
const LINE: usize = 300;
const ADDRESS: usize = 260;
const PARTICIPANTS: usize = 50;
const PARTICIPANTS_BYTES: usize = 2200;
const SEEN: usize = 20;
/// What is left of an entry's lists when they do not fit: each round cuts harder.
const ROUNDS: [Round; 4] = [
    Round { recipients: 20, steps: 16, said: 160, seen: 20, peer: 160 },
    Round { recipients: 8, steps: 10, said: 120, seen: 8, peer: 100 },
    Round { recipients: 3, steps: 6, said: 100, seen: 3, peer: 60 },
    Round { recipients: 1, steps: 4, said: 60, seen: 1, peer: 40 },
];

struct Round {
    recipients: usize,
    steps: usize,
    said: usize,
    seen: usize,
    peer: usize,
}

/// Cuts an entry: texts to their limits, then lists, the oldest sights first.
pub fn entry(row: &mut EntryRow) {
    row.from = text(&row.from, LINE);
    row.subject = text(&row.subject, LINE);
    row.channel = text(&row.channel, ADDRESS);
    row.queue = text(&row.queue, 120);
    row.message_id = row.message_id.as_deref().map(|id| text(id, MESSAGE_ID));
    row.author = row.author.as_deref().map(|author| text(author, AUTHOR));
    row.note = row.note.as_deref().map(|note| text(note, NOTE));
    keep_last(&mut row.also_seen, SEEN);
    for round in ROUNDS {
        if fits(row) {
            return;
        }
        row.rcpt_to.truncate(round.recipients);
        row.rcpt_to.iter_mut().for_each(|address| *address = text(address, round.peer.max(100)));
        // The last step says what became of it, so the ones before it go.
        let last = row.trace.pop();
        row.trace.truncate(round.steps);
        row.trace.extend(last);
        row.trace.iter_mut().for_each(|step| step.said = text(&step.said, round.said));
        keep_last(&mut row.also_seen, round.seen);
        row.also_seen.iter_mut().for_each(|sight| sight.peer = text(&sight.peer, round.peer));
    }
    if !fits(row) {
        row.rcpt_to.clear();
        row.note = row.note.as_deref().map(|note| text(note, 600));
        row.trace.iter_mut().for_each(|step| step.step = text(&step.step, 20));
    }
}

/// Cuts a ticket: the newest who take part are left out first.
pub fn ticket(row: &mut TicketRow) {
    row.title = text(&row.title, 600);
    row.channel = text(&row.channel, ADDRESS);
    row.queue = text(&row.queue, 120);
    row.requester.name = text(&row.requester.name, 200);
    row.requester.address = text(&row.requester.address, ADDRESS);
    row.participants.truncate(PARTICIPANTS);
    let mut used = 0;
    row.participants.retain(|address| {
        used += cost(address) + 3;
        used <= PARTICIPANTS_BYTES
    });
}

/// The beginning of a text whose JSON form takes at most `most` bytes; what is cut shows an ellipsis.
pub fn text(text: &str, most: usize) -> String {
    if text.len() * 6 <= most || cost(text) <= most {
        return text.to_owned();
    }
    let mut used = '…'.len_utf8();
    let mut short: String = text
        .chars()
        .take_while(|letter| {
            used += cost_of(*letter);
            used <= most
        })
        .collect();
    short.push('…');
    short
}

fn cost(text: &str) -> usize {
    text.chars().map(cost_of).sum()
}

fn cost_of(letter: char) -> usize {
    match letter {
        '"' | '\\' => 2,
        letter if (letter as u32) < 0x20 => 6,
        letter => letter.len_utf8(),
    }
}

fn fits(row: &EntryRow) -> bool {
    // A little is left for numbers that grow when the row is written again.
    serde_json::to_vec(row).is_ok_and(|value| value.len() + 64 <= MAX_VALUE)
}

fn keep_last<T>(list: &mut Vec<T>, most: usize) {
    list.drain(..list.len().saturating_sub(most));
}
