//! Which channel a mail is for, when it was forwarded to an address that says nothing of it.

use super::channel::{Channel, Directory, Match};
use crate::mail::{Address, HeaderSection, Reason};

/// The fields that servers on the way write the real recipient into, the most trusted first.
const DELIVERY_FIELDS: &[&str] = &["Delivered-To", "X-Original-To", "Envelope-To", "X-Forwarded-To", "To", "Cc"];

/// One channel that a mail is for, and how that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The support address of the channel.
    pub channel: Address,
    /// The envelope recipients that led to it; for an intake address the addresses that the header field names.
    pub rcpt_to: Vec<Address>,
    /// A sentence for the trace.
    pub said: String,
}

/// The channels that a mail is for: those that the envelope names; where that names only intake addresses, the one that
/// the header fields name.
pub fn resolve(rcpt_to: &[Address], directory: &Directory, head: &HeaderSection<'_>) -> Result<Vec<Resolved>, Reason> {
    let mut found: Vec<Resolved> = Vec::new();
    let mut intake = Vec::new();
    for rcpt in rcpt_to {
        match directory.find(rcpt) {
            Some(Match::Channel(channel)) => add(&mut found, channel, rcpt),
            Some(Match::Intake) => intake.push(rcpt),
            None => {}
        }
    }
    if found.is_empty() && !intake.is_empty() {
        found.extend(from_headers(directory, head));
    }
    if found.is_empty() { Err(Reason::NoChannel) } else { Ok(found) }
}

fn add(found: &mut Vec<Resolved>, channel: &Channel, rcpt: &Address) {
    if let Some(known) = found.iter_mut().find(|known| known.channel == channel.address) {
        if !known.rcpt_to.contains(rcpt) {
            known.rcpt_to.push(rcpt.clone());
        }
        return;
    }
    let said = format!("the envelope names {rcpt}");
    found.push(Resolved { channel: channel.address.clone(), rcpt_to: vec![rcpt.clone()], said });
}

/// The first kind of field that names a known channel decides, and in it the first channel.
fn from_headers(directory: &Directory, head: &HeaderSection<'_>) -> Option<Resolved> {
    DELIVERY_FIELDS.iter().find_map(|field| {
        let named = head.addresses(field);
        let (address, channel) =
            named.iter().find_map(|address| directory.channel_for(address).map(|channel| (address, channel)))?;
        let same = |other: &&Address| directory.channel_for(other).is_some_and(|also| also.address == channel.address);
        let mut rcpt_to: Vec<Address> = Vec::new();
        for other in named.iter().filter(same) {
            if !rcpt_to.contains(other) {
                rcpt_to.push(other.clone());
            }
        }
        let said = format!("sent to an intake address, and {field} names {address}");
        Some(Resolved { channel: channel.address.clone(), rcpt_to, said })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::channel::tests::channel;

    fn directory() -> Directory {
        let channels = vec![channel("support@shop.example"), channel("sales@shop.example")];
        Directory::new(channels, vec![], vec![Address::parse("in@gw.example").unwrap()], None)
    }

    #[test]
    fn the_envelope_comes_first_and_the_fields_in_their_order() {
        let table = [
            (
                "support@shop.example",
                "To: sales@shop.example",
                "support@shop.example: the envelope names support@shop.example",
            ),
            (
                "sales@shop.example support+t1@shop.example sales+x@shop.example",
                "To: x@y",
                "sales@shop.example: the envelope names sales@shop.example; \
                 support@shop.example: the envelope names support+t1@shop.example",
            ),
            (
                "in@gw.example",
                "To: support@shop.example\nX-Original-To: sales@shop.example",
                "sales@shop.example: sent to an intake address, and X-Original-To names sales@shop.example",
            ),
            (
                "in+a@gw.example",
                "Delivered-To: in@gw.example\nDelivered-To: support@shop.example\nTo: sales@shop.example",
                "support@shop.example: sent to an intake address, and Delivered-To names support@shop.example",
            ),
            (
                "in@gw.example",
                "Envelope-To: somebody@else.example\nTo: a@b, Sales <SALES@shop.example>, support@shop.example",
                "sales@shop.example: sent to an intake address, and To names SALES@shop.example",
            ),
            (
                "in@gw.example",
                "Cc: =?utf-8?Q?S=C3=BCpport?= <support+t9@shop.example>",
                "support@shop.example: sent to an intake address, and Cc names support+t9@shop.example",
            ),
            ("in@gw.example", "To: nobody@shop.example", "no_channel"),
            (
                "in@gw.example support@shop.example",
                "To: sales@shop.example",
                "support@shop.example: the envelope names support@shop.example",
            ),
            ("other@gw.example", "To: support@shop.example", "no_channel"),
        ];
        for (rcpts, head, want) in table {
            let rcpt_to: Vec<Address> = rcpts.split(' ').map(|text| Address::parse(text).unwrap()).collect();
            let head = HeaderSection::read(head.as_bytes(), 1000).unwrap();
            let got = match resolve(&rcpt_to, &directory(), &head) {
                Ok(found) => {
                    let said: Vec<String> = found.iter().map(|one| format!("{}: {}", one.channel, one.said)).collect();
                    said.join("; ")
                }
                Err(reason) => reason.code().to_owned(),
            };
            assert_eq!(got, want, "{rcpts}");
        }
    }

    #[test]
    fn recipients_of_one_channel_stand_together() {
        let rcpt_to = ["support+a@shop.example", "support@shop.example", "support+a@shop.example"];
        let rcpt_to: Vec<Address> = rcpt_to.iter().map(|text| Address::parse(text).unwrap()).collect();
        let head = HeaderSection::read(b"To: x@y", 1000).unwrap();
        let found = resolve(&rcpt_to, &directory(), &head).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rcpt_to, rcpt_to[..2]);
    }
}
