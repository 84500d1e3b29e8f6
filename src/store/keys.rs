//! The keys of the index: one tree, the first byte says what a key is for. Numbers are big-endian, so they sort.

use sha2::{Digest, Sha256};

use super::rows::Position;
use crate::mail::{Address, Outline};

/// The position of the last commit that the index has.
pub const APPLIED: &[u8] = b"m/applied";
/// Stands for the log that the index was made from (`Segments::mark`).
pub const LOG: &[u8] = b"m/log";
/// Everything in the log before this is filed.
pub const FILED: &[u8] = b"m/filed";
/// The last `seq` and the last ticket number that were given.
pub const SEQ: &[u8] = b"m/seq";
pub const TICKET: &[u8] = b"m/ticket";

/// The address of the default channel, once somebody has chosen one.
pub const DEFAULT: &[u8] = b"m/default";

pub const ENTRIES: u8 = b'e';
pub const EVENTS: u8 = b'v';
pub const IDS: u8 = b'i';
pub const TICKETS: u8 = b't';
pub const MEMBERS: u8 = b'n';
pub const MERGED: u8 = b'g';
pub const ORIGINALS: u8 = b'd';
pub const MENTIONS: u8 = b'x';
pub const RETRIES: u8 = b'r';
pub const LIVE: u8 = b'l';
pub const ERASING: u8 = b'z';
pub const LEDGER: u8 = b'k';
pub const INTENTS: u8 = b'q';
pub const SOURCES: u8 = b's';
pub const OUTBOX: u8 = b'o';
pub const RECIPIENTS: u8 = b'c';
pub const UNDONE: u8 = b'u';
pub const ACKNOWLEDGE: u8 = b'a';
pub const ORDERS: u8 = b'y';
pub const SUPPRESSED: u8 = b'h';
pub const BRAKES: u8 = b'b';
pub const QUOTAS: u8 = b'w';
pub const OUTLINES: u8 = b'p';
pub const PROBES: u8 = b'j';
pub const REPORTS: u8 = b'f';
pub const CLOCKS: u8 = b'C';

/// `e seq`: the row of an entry.
pub fn entry(seq: u64) -> Vec<u8> {
    numbered(ENTRIES, seq)
}

/// `v seq`: a change that is no new entry.
pub fn event(seq: u64) -> Vec<u8> {
    numbered(EVENTS, seq)
}

/// `i id`: the `seq` of the entry with that public id.
pub fn id(text: &str) -> Vec<u8> {
    [&[IDS][..], text.as_bytes()].concat()
}

/// `t number`: the row of a ticket.
pub fn ticket(number: u64) -> Vec<u8> {
    numbered(TICKETS, number)
}

/// `n ticket seq`: the entries of a ticket.
pub fn member(ticket: u64, seq: u64) -> Vec<u8> {
    pair(MEMBERS, ticket, seq)
}

/// `g into from`: the tickets that were merged into one.
pub fn merged(into: u64, from: u64) -> Vec<u8> {
    pair(MERGED, into, from)
}

/// `d message channel`: the entry that first had a Message-ID (or content) in a channel, and became part of a ticket.
pub fn original(message: &[u8; 16], channel: &Address) -> Vec<u8> {
    let channel = Sha256::digest(channel.key());
    [&[ORIGINALS][..], message, &channel[..8]].concat()
}

/// `x message seq`: any other entry of a Message-ID.
pub fn mention(message: &[u8; 16], seq: u64) -> Vec<u8> {
    [&[MENTIONS][..], message, &seq.to_be_bytes()].concat()
}

/// `p outline channel`: the entries of a channel that have one outline.
pub fn outline(outline: &Outline, channel: &Address) -> Vec<u8> {
    let channel = Sha256::digest(channel.key());
    [&[OUTLINES][..], &outline.0, &channel[..8]].concat()
}

/// `r position seq`: the mail at a position is to be filed again; `seq` is the entry that it was before.
pub fn retry(position: Position, seq: u64) -> Vec<u8> {
    pair(RETRIES, position.0, seq)
}

/// `s channel`: the mailbox of a channel. Ledger (`k`) and label intents (`q`) have keys of their own kind.
pub fn source(channel: &Address) -> Vec<u8> {
    let channel = Sha256::digest(channel.key());
    [&[SOURCES][..], &channel[..8]].concat()
}

/// `l segment`: how many mails in a segment are filed and not erased.
pub fn live(segment: u32) -> Vec<u8> {
    numbered(LIVE, u64::from(segment))
}

/// `z position`: the mail there is to be erased.
pub fn erasing(position: Position) -> Vec<u8> {
    numbered(ERASING, position.0)
}

/// `c seq n`: a recipient of a mail that leaves.
pub fn recipient(seq: u64, n: u32) -> Vec<u8> {
    [&[RECIPIENTS][..], &seq.to_be_bytes(), &n.to_be_bytes()].concat()
}

/// `o seq`: the outbox row of an entry.
pub fn outbox(seq: u64) -> Vec<u8> {
    numbered(OUTBOX, seq)
}

/// `u seq`: the mail waits or is held.
pub fn undone(seq: u64) -> Vec<u8> {
    numbered(UNDONE, seq)
}

/// `a seq`: the entry that opened a ticket is owed an acknowledgement.
pub fn acknowledge(seq: u64) -> Vec<u8> {
    numbered(ACKNOWLEDGE, seq)
}

/// `f seq event`: one report that the sender of a mail is owed; with `n` behind it, what it says of a recipient.
pub fn report_event(seq: u64, event: u64) -> Vec<u8> {
    pair(REPORTS, seq, event)
}

/// `f seq event n`.
pub fn report(seq: u64, event: u64, n: u32) -> Vec<u8> {
    [&report_event(seq, event)[..], &n.to_be_bytes()].concat()
}

/// `h address`: failures of an address.
pub fn suppressed(address: &str) -> Vec<u8> {
    [&[SUPPRESSED][..], &hash("h:", &address.to_lowercase())].concat()
}

/// `b c what`: what a brake has counted.
pub fn brake_count(what: &[u8; 16]) -> Vec<u8> {
    [&[BRAKES, b'c'][..], what].concat()
}

/// `b t id`: a brake that has tripped.
pub fn brake(id: &str) -> Vec<u8> {
    [&[BRAKES, b't'][..], id.as_bytes()].concat()
}

/// `b h id seq n`: a recipient that a brake holds.
pub fn braked(id: &str, seq: u64, n: u32) -> Vec<u8> {
    [&braked_by(id)[..], &seq.to_be_bytes(), &n.to_be_bytes()].concat()
}

/// What the keys of everything that a brake holds begin with.
pub fn braked_by(id: &str) -> Vec<u8> {
    [&[BRAKES, b'h'][..], id.as_bytes(), b"/"].concat()
}

/// Stands for what a brake is about.
pub fn brake_hash(scope: &str, about: &str) -> [u8; 16] {
    hash("b:", &format!("{scope}:{about}"))
}

/// `w account page`: a page of the quota windows of an account.
pub fn quota(account: &str, page: &[u8]) -> Vec<u8> {
    [&[QUOTAS][..], &hash("q:", account), page].concat()
}

/// `y key`: what was handed in under an idempotency key.
pub fn order(key: &str) -> Vec<u8> {
    [&[ORDERS][..], &hash("o:", key)].concat()
}

/// `j relay`: what probes have shown of a relay.
pub fn probe(relay: &str) -> Vec<u8> {
    [&[PROBES][..], &hash("j:", relay)].concat()
}

/// `C account`: since when the clock of mail that an account sends stands still.
pub fn clock(account: &str) -> Vec<u8> {
    [&[CLOCKS][..], &hash("C:", account)].concat()
}

/// A key's prefix with one number.
pub fn numbered(prefix: u8, number: u64) -> Vec<u8> {
    [&[prefix][..], &number.to_be_bytes()].concat()
}

/// The number at `at` numbers behind the prefix.
pub fn number_in(key: &[u8], at: usize) -> u64 {
    let start = 1 + at * 8;
    key.get(start..start + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Stands for a Message-ID in keys.
pub fn message_hash(message_id: &str) -> [u8; 16] {
    hash("m:", message_id.trim().trim_start_matches('<').trim_end_matches('>'))
}

/// Stands for the bytes of a mail without a Message-ID.
pub fn content_hash(content_key: &str) -> [u8; 16] {
    hash("c:", content_key)
}

fn hash(kind: &str, text: &str) -> [u8; 16] {
    let digest = Sha256::new().chain_update(kind).chain_update(text).finalize();
    let mut short = [0u8; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

fn pair(prefix: u8, first: u64, second: u64) -> Vec<u8> {
    [&[prefix][..], &first.to_be_bytes(), &second.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_kinds_of_keys_begin_alike() {
        let source = include_str!("keys.rs");
        let mut prefixes: Vec<&str> =
            source.lines().filter_map(|line| line.split_once(": u8 = ")).map(|it| it.1).collect();
        let count = prefixes.len();
        prefixes.sort_unstable();
        prefixes.dedup();
        assert!(count > 20 && prefixes.len() == count, "{prefixes:?}");
    }
}
