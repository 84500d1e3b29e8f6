//! Listing and fetching. Nothing here marks a mail as read: bodies are asked for with BODY.PEEK.

use std::collections::{BTreeMap, BTreeSet};

use async_imap::imap_proto::{AttributeValue, Response};
use jiff::Timestamp;
use tokio::time::timeout;

use super::wire::Wire;
use super::{ImapError, LABEL, Labels, Listed, Mailbox, sequence_set};

/// How much of a large mail is asked for at once.
pub const SLICE: u32 = 512 << 10;

/// How many mails are listed again in one command.
const LESS: usize = 250;

/// A command that brings mails, from its sending to its tagged answer.
#[derive(Debug)]
pub struct Fetching {
    tag: String,
    uids: Vec<u32>,
}

impl Mailbox {
    /// Mails with uids from `first` to `last`, in order. What is out of range is left out; what a server tells of one mail
    /// in several responses is put together. A uid alone lists a mail, for none may be passed over.
    pub async fn list(&mut self, first: u32, last: Option<u32>) -> Result<Vec<Listed>, ImapError> {
        // What comes from here on may or may not be in the listing.
        self.wire.news &= last.is_some();
        let labels = if self.labels == Labels::Gmail { " X-GM-LABELS" } else { "" };
        let end = last.map_or_else(|| "*".to_owned(), |uid| uid.to_string());
        let items = format!("UID FLAGS RFC822.SIZE INTERNALDATE{labels}");
        let (mut found, passed) = self.listing(&format!("{first}:{end}"), &items).await?;
        // `n:*` names the last mail even where its uid is lower than n (RFC 3501 section 6.4.8).
        let wanted = |uid: u32| uid >= first && last.is_none_or(|last| uid <= last);
        let strange = passed.iter().filter(|uid| uid.is_none_or(wanted)).count();
        if strange > 0 {
            self.unreadable += strange as u64;
            let uids: BTreeSet<u32> = passed.into_iter().flatten().filter(|uid| wanted(*uid)).collect();
            found.extend(self.list_less(&uids.into_iter().collect::<Vec<u32>>()).await?);
        }
        found.retain(|uid, _| wanted(*uid));
        Ok(found.into_values().collect())
    }

    /// One command of a listing, and the uids of the lines in its answer that cannot be read.
    async fn listing(&mut self, set: &str, items: &str) -> Result<Listing, ImapError> {
        let mut found: BTreeMap<u32, Listed> = BTreeMap::new();
        self.wire.passed = Some(Vec::new());
        let look = |response: &Response<'_>| {
            if let (Response::Fetch(_, attributes), Some(uid)) = (response, uid_of(response)) {
                told(found.entry(uid).or_insert(bare(uid)), attributes);
            }
        };
        let done = self.wire.command("FETCH", &format!("UID FETCH {set} ({items})"), look).await;
        let passed = self.wire.passed.take().unwrap_or_default();
        done.map(drop).or_else(|error| self.none_there(error))?;
        Ok((found, passed))
    }

    /// Lists mails without what servers are known to tell in ways that cannot be read: a date of arrival that is NIL,
    /// say. One that still cannot be read counts as unread and of unknown size, so that it is fetched and not lost.
    async fn list_less(&mut self, uids: &[u32]) -> Result<BTreeMap<u32, Listed>, ImapError> {
        let mut all = BTreeMap::new();
        for chunk in uids.chunks(LESS) {
            let (found, passed) = self.listing(&sequence_set(chunk), "UID FLAGS RFC822.SIZE").await?;
            all.extend(found);
            for uid in passed.into_iter().flatten() {
                all.entry(uid).or_insert(bare(uid));
            }
        }
        Ok(all)
    }

    /// How many lines of listings could not be read since the last call.
    pub fn take_unreadable(&mut self) -> u64 {
        std::mem::take(&mut self.unreadable)
    }

    /// Asks for whole mails, in one command; `fetched` then hands them over. The caller keeps their sizes together
    /// small and gives the uids in order.
    pub async fn fetch(&mut self, uids: Vec<u32>) -> Result<Fetching, ImapError> {
        let text = format!("UID FETCH {} (UID BODY.PEEK[])", sequence_set(&uids));
        Ok(Fetching { tag: self.wire.send("FETCH", &text).await?, uids })
    }

    /// The next mail, or `None` once all have come. Uids that are gone bring nothing.
    pub async fn fetched(&mut self, fetching: &Fetching) -> Result<Option<(u32, Vec<u8>)>, ImapError> {
        // However much else a server sends meanwhile, the next mail has to come within the patience.
        let patience = self.wire.patience;
        timeout(patience, self.next_fetched(fetching)).await.map_err(|_| ImapError::Timeout("FETCH"))?
    }

    async fn next_fetched(&mut self, fetching: &Fetching) -> Result<Option<(u32, Vec<u8>)>, ImapError> {
        loop {
            let mut body = None;
            let mut look = |response: &Response<'_>| {
                if let Response::Fetch(_, attributes) = response {
                    body = body_of(attributes);
                }
            };
            let done = self.wire.step("FETCH", &fetching.tag, &mut look).await?;
            if let Some(mail) = body.filter(|(uid, _)| fetching.uids.binary_search(uid).is_ok()) {
                return Ok(Some(mail));
            }
            if done.is_some() {
                return Ok(None);
            }
        }
    }

    /// A part of one mail: what stands at an offset, at most `len` bytes; fewer mean that the mail ends there, `None`
    /// that it is gone. The server's own count of a mail's bytes is not relied on.
    pub async fn fetch_part(&mut self, uid: u32, offset: u32, len: u32) -> Result<Option<Vec<u8>>, ImapError> {
        part(&mut self.wire, &format!("UID FETCH {uid} (UID BODY.PEEK[]<{offset}.{len}>)"), uid, len).await
    }

    /// The header section of a mail, at most `len` bytes of it.
    pub async fn fetch_head(&mut self, uid: u32, len: u32) -> Result<Option<Vec<u8>>, ImapError> {
        part(&mut self.wire, &format!("UID FETCH {uid} (UID BODY.PEEK[HEADER]<0.{len}>)"), uid, len).await
    }

    /// The Message-ID fields of mails, for recognising them after their uids have changed.
    pub async fn message_ids(&mut self, uids: &[u32]) -> Result<Vec<(u32, Vec<u8>)>, ImapError> {
        let text = format!("UID FETCH {} (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])", sequence_set(uids));
        let mut found = Vec::new();
        self.wire
            .command("FETCH", &text, |response| {
                if let Response::Fetch(_, attributes) = response {
                    found.extend(body_of(attributes));
                }
            })
            .await?;
        Ok(found)
    }
}

/// What a listing has brought, and the uids of the lines that cannot be read.
type Listing = (BTreeMap<u32, Listed>, Vec<Option<u32>>);

/// A mail of which nothing is told yet.
fn bare(uid: u32) -> Listed {
    Listed { uid, size: None, seen: false, labelled: false, arrived: None }
}

async fn part(wire: &mut Wire, text: &str, uid: u32, len: u32) -> Result<Option<Vec<u8>>, ImapError> {
    let mut found = None;
    let patience = wire.patience;
    let look = |response: &Response<'_>| {
        if let Response::Fetch(_, attributes) = response
            && let Some((theirs, bytes)) = body_of(attributes)
            && theirs == uid
        {
            found = Some(bytes);
        }
    };
    // A part is small: a server that talks of other things for so long does not bring it.
    timeout(patience, wire.command("FETCH", text, look)).await.map_err(|_| ImapError::Timeout("FETCH"))??;
    // More than was asked for is the whole mail from its beginning, whatever the offset was.
    if found.as_ref().is_some_and(|bytes| bytes.len() > len as usize) {
        return Err(ImapError::Protocol("the server cannot hand out parts of a mail".into()));
    }
    Ok(found)
}

/// The uid of a FETCH response.
pub(super) fn uid_of(response: &Response<'_>) -> Option<u32> {
    let Response::Fetch(_, attributes) = response else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::Uid(uid) => Some(*uid),
        _ => None,
    })
}

pub(super) fn body_of(attributes: &[AttributeValue<'_>]) -> Option<(u32, Vec<u8>)> {
    let (mut uid, mut bytes) = (None, None);
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(number) => uid = Some(*number),
            AttributeValue::BodySection { data, .. } => bytes = Some(data.as_deref().unwrap_or_default().to_vec()),
            _ => {}
        }
    }
    Some((uid?, bytes?))
}

/// Notes what one response tells of a mail.
fn told(mail: &mut Listed, attributes: &[AttributeValue<'_>]) {
    for attribute in attributes {
        match attribute {
            AttributeValue::Rfc822Size(bytes) => mail.size = Some(u64::from(*bytes)),
            AttributeValue::InternalDate(text) => mail.arrived = internal_date(text),
            AttributeValue::Flags(flags) => {
                mail.seen = flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Seen"));
                mail.labelled |= flags.iter().any(|flag| flag.eq_ignore_ascii_case(LABEL));
            }
            AttributeValue::GmailLabels(labels) => {
                mail.labelled |= labels.iter().any(|label| label.trim_matches('"').eq_ignore_ascii_case(LABEL));
            }
            _ => {}
        }
    }
}

/// `17-Jul-1996 02:44:25 -0700` (RFC 3501, date-time).
pub(super) fn internal_date(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_matches('"').trim();
    jiff::fmt::strtime::parse("%d-%b-%Y %H:%M:%S %z", text).ok()?.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_arrival_are_read() {
        let table = [
            ("17-Jul-1996 02:44:25 -0700", Some("1996-07-17T09:44:25Z")),
            (" 1-Jan-2026 00:00:00 +0000", Some("2026-01-01T00:00:00Z")),
            ("yesterday", None),
        ];
        for (text, want) in table {
            assert_eq!(internal_date(text).map(|at| at.to_string()).as_deref(), want, "{text}");
        }
    }
}
