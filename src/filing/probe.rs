//! Probes of relays (B7): one that leaves is let through to an address of ours, and one that comes home by any door is
//! recognised by its signed token, compared with what was written, and becomes no ticket.
//!
//! A probe that leaves is one whose Message-ID carries our signature of the very id that its mail was given here, which
//! nobody outside can know in advance. What comes in proves less, since whoever saw a probe can send it again; the first
//! one counts, and the worst that others can do is that mail of theirs becomes no ticket.

use crate::mail::address::is_under;
use crate::mail::auth::Verdict;
use crate::mail::message::{Automatic, BounceKind, Summary};
use crate::mail::survival::{self, Fate, SIGNATURE, Survival};
use crate::mail::{Address, HeaderSection, MailId, Reason};
use crate::store::rows::{EntryKind, EntryRow, FieldRow, ProbeHome, ProbeRow, ProbeSent};
use crate::store::{Delivery, Spooled, Step, StoreError};
use crate::ticket::decide::{Decision, Filing};
use crate::ticket::letter::PROBE_SUBJECT;
use crate::ticket::token::TokenKeys;

use super::candidate::Context;
use super::reader::Read;

/// How much of a mail is looked at for its header section; no door takes a larger one.
const HEAD: usize = 1 << 20;

/// The step of the trace.
const STEP: &str = "probe";

/// A mail that has to do with a probe: what becomes of it, and what it tells.
pub(super) struct Recognised {
    pub decision: Decision,
    pub home: Option<Home>,
}

/// What is to be written down about a probe.
pub(super) struct Home {
    pub row: ProbeRow,
    /// The entry of the probe as it was sent.
    pub entry: EntryRow,
    pub said: String,
}

/// What a mail is to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Itself(MailId),
    /// An answer to it, or a report about it.
    Answer(MailId),
}

/// Whether a mail that leaves is a probe that was written here.
pub(super) fn is_own(keys: &TokenKeys, spooled: &Spooled, summary: &Summary) -> bool {
    summary.message_id.as_deref().and_then(|id| keys.verify_probe(id)) == Some(spooled.id)
}

/// Notes that a probe has its place in the outbox, if the mail is one.
pub(super) fn leaves(
    step: &mut Step<'_>,
    context: &Context<'_>,
    read: &Read,
    row: &EntryRow,
) -> Result<(), StoreError> {
    let relay = read.spooled.outgoing.as_ref().and_then(|meta| meta.relay.as_deref());
    let Some(relay) = relay.filter(|_| is_own(context.keys, &read.spooled, &read.summary)) else { return Ok(()) };
    let at = read.spooled.received_at;
    step.probe_sent(relay, ProbeSent { entry: row.id.clone(), channel: row.channel.clone(), at, failed: None })
}

/// What becomes of a mail that is a probe or is about one; `None` for all other mail.
pub(super) fn recognise(
    step: &Step<'_>,
    context: &Context<'_>,
    read: &Read,
    delivery: &Delivery,
) -> Result<Option<Recognised>, StoreError> {
    let spooled = &read.spooled;
    if spooled.refused.is_some() || spooled.damaged || read.fault.is_some() {
        return Ok(None);
    }
    let (id, is_itself) = match mark(context.keys, &read.summary, &delivery.rcpt_to) {
        None => return Ok(None),
        Some(Mark::Itself(id)) => (id, true),
        Some(Mark::Answer(id)) => (id, false),
    };
    let (said, home) = match sent(step, id)? {
        None => (format!("it carries our signed token of probe {id}, of which nothing is known here"), None),
        Some((entry, row)) if is_itself => came(step, read, entry, row),
        Some((entry, row)) => answered(&read.summary, entry, row),
    };
    let decision = Decision::outright(Filing::Drop { reason: Reason::Probe }, STEP, said);
    Ok(Some(Recognised { decision, home }))
}

/// Finds the token. An answer may quote that of the probe in many places, so what makes it one is looked at first.
fn mark(keys: &TokenKeys, summary: &Summary, rcpt_to: &[Address]) -> Option<Mark> {
    let in_detail =
        |address: &Address, verify: &dyn Fn(&str) -> Option<MailId>| address.split_detail().1.and_then(verify);
    let probe = |text: &str| keys.verify_probe(text);
    let answer = |text: &str| keys.verify_probe_answer(text);
    let fields = || summary.to.iter().chain(&summary.cc).filter_map(|who| Address::parse(&who.address).ok());
    let bounced = summary.bounce.as_ref().and_then(|bounce| bounce.original_message_id.as_deref());
    let referred = || bounced.into_iter().chain(summary.in_reply_to.iter().map(String::as_str));
    if let Some(id) = rcpt_to.iter().find_map(|to| in_detail(to, &answer)).or_else(|| referred().find_map(probe)) {
        return Some(Mark::Answer(id));
    }
    let id = summary.message_id.as_deref().and_then(probe);
    let id = id.or_else(|| rcpt_to.iter().find_map(|to| in_detail(to, &probe)));
    if let Some(id) = id.or_else(|| fields().find_map(|to| in_detail(&to, &probe))) {
        return Some(if bounced.is_some() { Mark::Answer(id) } else { Mark::Itself(id) });
    }
    // Robots quote a subject as well.
    let id = summary.subject.split_once(PROBE_SUBJECT).and_then(|(_, rest)| probe(rest))?;
    let is_answer = summary.bounce.is_some() || summary.automatic == Automatic::AutoReplied;
    Some(if is_answer { Mark::Answer(id) } else { Mark::Itself(id) })
}

/// The entry of a probe that was sent, and what is known of its relay.
fn sent(step: &Step<'_>, id: MailId) -> Result<Option<(EntryRow, ProbeRow)>, StoreError> {
    let Some(entry) = step.entry(&id.to_string())?.filter(|row| row.kind == EntryKind::Outbound) else {
        return Ok(None);
    };
    let relay = step.outbox_row(entry.seq)?.and_then(|row| row.relay);
    let row = relay.map(|relay| step.probe(&relay)).transpose()?.flatten();
    Ok(row.map(|row| (entry, row)))
}

/// The probe is home: compares it with what was written, unless it, or a later one, was home before.
fn came(step: &Step<'_>, read: &Read, entry: EntryRow, mut row: ProbeRow) -> (String, Option<Home>) {
    let (relay, spooled) = (row.relay.clone(), &read.spooled);
    // Ids sort by time.
    if let Some(before) = row.home.as_ref().filter(|home| home.entry >= entry.id) {
        let word = if before.entry == entry.id { "it" } else { "a later one" };
        return (format!("it is a probe of relay \"{relay}\"; {word} came home before, by {}", before.door), None);
    }
    let fates = match compared(step, spooled, &entry) {
        Ok(fates) => fates,
        Err(why) => return (format!("it is a probe of relay \"{relay}\" that cannot be compared: {why}"), None),
    };
    let seconds = spooled.received_at.duration_since(entry.received_at).as_secs().max(0);
    let door = spooled.origin.kind.as_str();
    let said = format!("the probe of relay \"{relay}\" came home by {door} after {seconds} s: {}", told(&fates));
    row.home = Some(ProbeHome {
        entry: entry.id.clone(),
        sent_at: entry.received_at,
        came_at: spooled.received_at,
        door: door.into(),
        fields: fates
            .into_iter()
            .map(|Fate { name, survival, got }| FieldRow { name, fate: survival.as_str().into(), got })
            .collect(),
    });
    let (told, home) = (said.clone(), Home { row, entry, said });
    (told, Some(home))
}

/// What became of the fields, and of the signature that the relay has put in front, where there is one.
fn compared(step: &Step<'_>, spooled: &Spooled, entry: &EntryRow) -> Result<Vec<Fate>, String> {
    let written = entry.mail.and_then(|position| step.head(position, HEAD)).ok_or("its bytes were erased")?;
    let arrived = spooled.body.head(HEAD).map_err(|error| error.to_string())?;
    let read = |head| HeaderSection::read(head, HEAD).map_err(|reason| format!("its header section is {reason}"));
    let (written, arrived) = (read(&written)?, read(&arrived)?);
    let mut fates = survival::compare(&written, &arrived);
    let author = written.addresses("From").first().map(|from| from.domain().to_owned()).unwrap_or_default();
    let ours = |signer: &String| is_under(&author, signer);
    if survival::signers(&arrived).iter().any(ours) {
        let (survival, got) = signature(spooled.origin.auth.dkim);
        fates.push(Fate { name: SIGNATURE.into(), survival, got });
    }
    Ok(fates)
}

/// What a verdict says about a signature of ours that has arrived.
fn signature(verdict: Verdict) -> (Survival, Option<String>) {
    match verdict {
        Verdict::Pass => (Survival::Kept, None),
        // Nobody looked, as for mail from a peer that is exempt, or that is pulled.
        Verdict::None => (Survival::Kept, Some("it is there, and was not verified".into())),
        other => (Survival::Changed, Some(format!("it does not hold: {}", other.as_str()))),
    }
}

/// What became of all fields, for people.
fn told(fates: &[Fate]) -> String {
    let names = |survival: Survival| {
        let names: Vec<&str> =
            fates.iter().filter(|fate| fate.survival == survival).map(|fate| fate.name.as_str()).collect();
        (!names.is_empty()).then(|| format!("{} {}", survival.as_str(), names.join(", ")))
    };
    let worst_first = [Survival::Dropped, Survival::Changed, Survival::Folded, Survival::Kept];
    worst_first.into_iter().filter_map(names).collect::<Vec<_>>().join("; ")
}

/// Somebody, or a server, answers the probe. A report that it failed is told with the relay.
fn answered(summary: &Summary, entry: EntryRow, mut row: ProbeRow) -> (String, Option<Home>) {
    let failed = summary.bounce.as_ref().filter(|bounce| bounce.kind == BounceKind::Failed);
    let Some(bounce) = failed.filter(|_| row.sent.entry == entry.id) else {
        return (format!("it answers a probe of relay \"{}\"", row.relay), None);
    };
    let why = bounce.recipients.first().and_then(|one| one.diagnostic.clone().or_else(|| one.status.clone()));
    let why = why.unwrap_or_else(|| "without a reason".into());
    let said = format!("a report says that the probe of relay \"{}\" was not delivered: {why}", row.relay);
    row.sent.failed = Some(why);
    (said.clone(), Some(Home { row, entry, said }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::message::{Bounce, Mailbox};

    #[test]
    fn what_a_mail_is_to_a_probe() {
        let keys = TokenKeys::new(vec![[7; 32]]);
        let id = MailId(1 << 58);
        let (p, q) = (keys.sign_probe(id).unwrap(), keys.sign_probe_answer(id).unwrap());
        let plain = Summary::default();
        let with_id = Summary { message_id: Some(format!("{p}.x@a.example")), ..Summary::default() };
        let subject = Summary { subject: format!("[EXTERNAL] {PROBE_SUBJECT}{p}"), ..Summary::default() };
        let to = |address: String| Mailbox { name: String::new(), address };
        let named = Summary { to: vec![to(format!("s+{p}@a.example"))], ..Summary::default() };
        let reply = Summary { in_reply_to: vec![format!("{p}.x@a.example")], ..subject.clone() };
        let robot = Summary { automatic: Automatic::AutoReplied, ..subject.clone() };
        let null = Summary { automatic: Automatic::AutoReplied, ..with_id.clone() };
        let report = Bounce {
            kind: BounceKind::Failed,
            recipients: Vec::new(),
            original_message_id: Some(format!("{p}.x@a.example")),
        };
        let report = Summary { bounce: Some(report), ..Summary::default() };
        let forged = Summary { message_id: Some(format!("p{}.x@a.example", &q[1..])), ..Summary::default() };
        let (itself, answer) = (Some(Mark::Itself(id)), Some(Mark::Answer(id)));
        // What it says, the recipient of the envelope, what it is.
        let table = [
            (&plain, "s@a.example".to_owned(), None),
            (&plain, format!("s+{p}@a.example"), itself),
            (&plain, format!("S+{}@a.example", p.to_uppercase()), itself),
            (&plain, format!("s+{q}@a.example"), answer),
            (&with_id, "s@a.example".into(), itself),
            (&with_id, format!("s+{q}@a.example"), answer),
            (&subject, "s@a.example".into(), itself),
            (&named, "s@a.example".into(), itself),
            (&reply, format!("s+{p}@a.example"), answer),
            (&robot, "s@a.example".into(), answer),
            (&null, "s@a.example".into(), itself),
            (&report, "s@a.example".into(), answer),
            (&forged, "s@a.example".into(), None),
            (&plain, format!("s+p{}@a.example", &q[1..]), None),
        ];
        for (summary, rcpt, want) in table {
            let got = mark(&keys, summary, &[Address::parse(&rcpt).unwrap()]);
            assert_eq!(got, want, "{rcpt} {summary:?}");
        }
    }

    #[test]
    fn a_signature_holds_or_not_and_fates_are_told_worst_first() {
        assert_eq!(signature(Verdict::Pass), (Survival::Kept, None));
        assert_eq!(signature(Verdict::None).0, Survival::Kept);
        assert_eq!(signature(Verdict::Fail), (Survival::Changed, Some("it does not hold: fail".into())));
        let fate = |name: &str, survival| Fate { name: name.into(), survival, got: None };
        let fates = [fate("A", Survival::Kept), fate("B", Survival::Dropped), fate("C", Survival::Kept)];
        assert_eq!(told(&fates), "dropped B; kept A, C");
    }
}
