//! The meta part of a mail's record: JSON shapes of the mail values, which know nothing of storage themselves.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::values::{Delivery, MailMeta, OutgoingMeta, OutgoingRecipient};
use crate::mail::auth::{AuthResults, DmarcPolicy, Verdict};
use crate::mail::origin::{OriginKind, RemoteMessage};
use crate::mail::{Address, Class, Envelope, MailId, Origin, Reason};

#[derive(Serialize, Deserialize)]
struct Meta {
    id: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    rcpt: Vec<String>,
    origin: OriginMeta,
    to: Vec<(String, Vec<String>)>,
    #[serde(default, skip_serializing_if = "is_false")]
    review: bool,
    size: u64,
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// The bytes are in a file of their own.
    #[serde(default, skip_serializing_if = "is_false")]
    file: bool,
    /// Of a pulled mail: channel, UIDVALIDITY, UID, and whether it is from before the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote: Option<(String, u32, u32, bool)>,
    /// Of a mail that leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    out: Option<OutMeta>,
}

#[derive(Serialize, Deserialize)]
struct OutMeta {
    class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticket: Option<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    opens: bool,
    author: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    print: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
    /// Address, NOTIFY, ORCPT.
    to: Vec<(String, Option<String>, Option<String>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answers: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    utf8: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct OriginMeta {
    kind: String,
    peer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    helo: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    /// SPF, DKIM, DMARC, ARC and what the From domain asks for.
    auth: [String; 5],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dkim_domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// Where the bytes of a mail are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Inline,
    File,
}

/// The meta part for a mail.
pub fn encode(mail: &MailMeta, place: Place) -> Result<Vec<u8>, String> {
    let texts = |list: &[Address]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let auth = &mail.origin.auth;
    let policy = match auth.dmarc_policy {
        DmarcPolicy::None => "none",
        DmarcPolicy::Quarantine => "quarantine",
        DmarcPolicy::Reject => "reject",
    };
    let meta = Meta {
        id: mail.id.to_string(),
        at: mail.received_at,
        sender: mail.envelope.mail_from.as_ref().map(ToString::to_string),
        rcpt: texts(&mail.envelope.rcpt_to),
        origin: OriginMeta {
            kind: mail.origin.kind.as_str().into(),
            peer: mail.origin.peer.clone(),
            helo: mail.origin.helo.clone(),
            tls: mail.origin.tls.clone(),
            certificate: mail.origin.client_certificate.clone(),
            auth: [auth.spf.as_str(), auth.dkim.as_str(), auth.dmarc.as_str(), auth.arc.as_str(), policy]
                .map(str::to_owned),
            dkim_domain: auth.dkim_domain.clone(),
            note: auth.note.clone(),
        },
        to: mail.deliveries.iter().map(|d| (d.channel.to_string(), texts(&d.rcpt_to))).collect(),
        review: mail.review,
        size: mail.size,
        sha256: mail.sha256.clone(),
        refused: mail.refused.map(|reason| reason.code().to_owned()),
        file: place == Place::File,
        remote: mail.origin.remote.as_ref().map(|r| (r.channel.to_string(), r.validity, r.uid, r.backfill)),
        out: mail.outgoing.as_ref().map(out_meta),
    };
    serde_json::to_vec(&meta).map_err(|error| error.to_string())
}

/// Reads what `encode` wrote.
pub fn decode(bytes: &[u8]) -> Result<(MailMeta, Place), String> {
    let meta: Meta = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let one = |text: &String| Address::parse(text).map_err(|error| format!("{text:?}: {error}"));
    let all = |list: &[String]| list.iter().map(one).collect::<Result<Vec<_>, _>>();
    let [spf, dkim, dmarc, arc, policy] = &meta.origin.auth;
    let place = if meta.file { Place::File } else { Place::Inline };
    let mail = MailMeta {
        id: MailId::parse(&meta.id).ok_or("the id cannot be read")?,
        received_at: meta.at,
        envelope: Envelope { mail_from: meta.sender.as_ref().map(one).transpose()?, rcpt_to: all(&meta.rcpt)? },
        deliveries: meta
            .to
            .iter()
            .map(|(channel, rcpt)| Ok(Delivery { channel: one(channel)?, rcpt_to: all(rcpt)? }))
            .collect::<Result<_, String>>()?,
        review: meta.review,
        size: meta.size,
        sha256: meta.sha256,
        outgoing: meta.out.map(outgoing).transpose()?,
        refused: meta.refused.as_deref().map(|code| Reason::from_code(code).unwrap_or(Reason::Malformed)),
        origin: Origin {
            kind: OriginKind::from_word(&meta.origin.kind).ok_or("the kind of origin is unknown")?,
            peer: meta.origin.peer,
            helo: meta.origin.helo,
            tls: meta.origin.tls,
            client_certificate: meta.origin.certificate,
            auth: AuthResults {
                spf: Verdict::from_word(spf),
                dkim: Verdict::from_word(dkim),
                dmarc: Verdict::from_word(dmarc),
                arc: Verdict::from_word(arc),
                dmarc_policy: match policy.as_str() {
                    "quarantine" => DmarcPolicy::Quarantine,
                    "reject" => DmarcPolicy::Reject,
                    _ => DmarcPolicy::None,
                },
                dkim_domain: meta.origin.dkim_domain,
                note: meta.origin.note,
            },
            remote: meta.remote.as_ref().map(remote).transpose()?,
        },
    };
    Ok((mail, place))
}

fn remote((channel, validity, uid, backfill): &(String, u32, u32, bool)) -> Result<RemoteMessage, String> {
    let channel = Address::parse(channel).map_err(|error| format!("{channel:?}: {error}"))?;
    Ok(RemoteMessage { channel, validity: *validity, uid: *uid, backfill: *backfill })
}

fn out_meta(out: &OutgoingMeta) -> OutMeta {
    let to = |one: &OutgoingRecipient| (one.address.to_string(), one.notify.clone(), one.orcpt.clone());
    OutMeta {
        class: out.class.as_str().to_owned(),
        ticket: out.ticket,
        opens: out.opens,
        author: out.author.clone(),
        key: out.key.clone(),
        print: out.fingerprint.clone(),
        relay: out.relay.clone(),
        to: out.recipients.iter().map(to).collect(),
        answers: out.answers.clone(),
        utf8: out.smtputf8,
        ret: out.ret.clone(),
        envid: out.envid.clone(),
        report: out.report,
    }
}

fn outgoing(out: OutMeta) -> Result<OutgoingMeta, String> {
    let recipient = |(address, notify, orcpt): (String, Option<String>, Option<String>)| {
        let address = Address::parse(&address).map_err(|error| format!("{address:?}: {error}"))?;
        Ok(OutgoingRecipient { address, notify, orcpt })
    };
    Ok(OutgoingMeta {
        class: Class::from_word(&out.class).ok_or("the class is unknown")?,
        ticket: out.ticket,
        opens: out.opens,
        author: out.author,
        key: out.key,
        fingerprint: out.print,
        relay: out.relay,
        recipients: out.to.into_iter().map(recipient).collect::<Result<_, String>>()?,
        answers: out.answers,
        smtputf8: out.utf8,
        ret: out.ret,
        envid: out.envid,
        report: out.report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{address, delivery, now, origin};

    fn mail(outgoing: Option<OutgoingMeta>) -> MailMeta {
        MailMeta {
            id: MailId::fresh(now()),
            received_at: now(),
            envelope: Envelope { mail_from: None, rcpt_to: vec![address("ann@example.net")] },
            origin: origin(),
            deliveries: vec![delivery("support@a.example")],
            review: false,
            size: 3,
            sha256: "00".into(),
            refused: None,
            outgoing,
        }
    }

    #[test]
    fn mail_that_leaves_reads_back_and_mail_that_came_says_nothing_of_it() {
        let full = OutgoingMeta {
            class: Class::Automatic,
            ticket: Some(12),
            opens: true,
            author: "Bea".into(),
            key: Some("k".into()),
            fingerprint: Some("f".into()),
            relay: Some("smarthost".into()),
            recipients: vec![OutgoingRecipient {
                address: address("ann@example.net"),
                notify: Some("NEVER".into()),
                orcpt: Some("rfc822;ann@example.net".into()),
            }],
            answers: Some("0000000000000".into()),
            smtputf8: true,
            ret: Some("HDRS".into()),
            envid: Some("e1".into()),
            report: Some((17, 1_795_000_000_000_000)),
        };
        for outgoing in [None, Some(OutgoingMeta::default()), Some(full)] {
            let meta = mail(outgoing);
            let bytes = encode(&meta, Place::Inline).unwrap();
            assert_eq!(String::from_utf8_lossy(&bytes).contains("\"out\""), meta.outgoing.is_some());
            assert_eq!(decode(&bytes).unwrap(), (meta, Place::Inline));
        }
    }
}
