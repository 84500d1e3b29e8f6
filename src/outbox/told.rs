//! What an attempt leaves to tell the sender of a mail (RFC 3461 section 5.2). Pure.
//!
//! Must not know: what a sender has asked for, or whether there is one; the store asks that when it writes this down.

use jiff::Timestamp;

use crate::mail::notify::Action;
use crate::relay::{Beyond, Outcome, RecipientOutcome, Reply};
use crate::store::Told;
use crate::store::rows::DeliveryState;

/// The time that a mail has is over (RFC 3463 section 3.5).
const EXPIRED: &str = "4.4.7";

/// What is to be told of one recipient of an attempt, now or, of a delay, once the mail is late. Of a mail that is with
/// a server which reports itself there is nothing to tell.
pub fn told(outcome: &RecipientOutcome, state: DeliveryState, job: &Outcome, until: Timestamp) -> Option<Told> {
    let reply = outcome.reply();
    let (action, status) = match (state, job.beyond) {
        (DeliveryState::Relayed, Beyond::Reports) => return None,
        (DeliveryState::Relayed, Beyond::Silence) => (Action::Relayed, status(reply, '2')),
        (DeliveryState::Relayed, Beyond::Nothing) => (Action::Delivered, status(reply, '2')),
        (DeliveryState::Delayed, _) => (Action::Delayed, status(reply, '4')),
        (DeliveryState::Failed, _) if matches!(outcome, RecipientOutcome::Failed(_)) => {
            (Action::Failed, status(reply, '5'))
        }
        (DeliveryState::Failed, _) => (Action::Failed, EXPIRED.to_owned()),
        _ => return None,
    };
    let remote = job.transport.as_ref().filter(|_| reply.heard).map(|via| via.host.clone());
    let until = (action == Action::Delayed).then_some(until);
    Some(Told { action, status, said: said(outcome), remote, until })
}

/// The words of a server, or ours for senders. What we say to operators of trouble names logins, files and relays; only
/// a refusal of ours is about the mail or its address, unless the fault is the system's (RFC 3463 section 3.4).
fn said(outcome: &RecipientOutcome) -> String {
    let reply = outcome.reply();
    let status = reply.enhanced.as_deref().unwrap_or_default();
    let plain = match outcome {
        RecipientOutcome::Failed(_) if status == "5.3.0" => "it cannot be sent, by a fault of this mail system",
        RecipientOutcome::Delayed(_) if matches!(status, "4.4.3" | "4.4.4") => {
            "the servers of its domain cannot be found"
        }
        RecipientOutcome::Delayed(_) if status.starts_with("4.4.") => {
            "the next server cannot be reached, or does not answer"
        }
        RecipientOutcome::Delayed(_) => "it could not be handed on to the next server",
        RecipientOutcome::Ambiguous(_) => "it was sent to the next server, which has not confirmed it",
        RecipientOutcome::Relayed(_) | RecipientOutcome::Failed(_) => "",
    };
    if reply.heard || plain.is_empty() { reply.to_string() } else { plain.to_owned() }
}

/// Of a mail that was given up without having had its turn.
pub fn given_up() -> Told {
    Told::failed(EXPIRED, "given up: it could not be handed on in the time that it had")
}

/// Of an address that nothing is sent to any more, as it was suppressed while its mail waited.
pub fn suppressed(said: &str) -> Told {
    Told::failed("5.7.1", said)
}

/// The status of a reply; one of another class than the action, as `5.4.5` for a quota, would contradict it.
fn status(reply: &Reply, class: char) -> String {
    let stated = reply.enhanced.as_ref().filter(|enhanced| enhanced.starts_with(class));
    stated.cloned().unwrap_or_else(|| format!("{class}.0.0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Via;

    #[test]
    fn what_there_is_to_tell() {
        use DeliveryState::{Delayed, Failed, Relayed};
        let until = Timestamp::from_second(1_795_000_000).unwrap();
        // Reply, state, what lies beyond; action, status, remote.
        type Case = (&'static str, DeliveryState, Beyond, Option<(Action, &'static str, Option<&'static str>)>);
        let peer = Some("mx.example.com");
        let table: [Case; 9] = [
            ("250 2.1.5 ok", Relayed, Beyond::Reports, None),
            ("250 2.1.5 ok", Relayed, Beyond::Silence, Some((Action::Relayed, "2.1.5", peer))),
            ("250 ok", Relayed, Beyond::Nothing, Some((Action::Delivered, "2.0.0", peer))),
            ("550 5.1.1 no", Failed, Beyond::Reports, Some((Action::Failed, "5.1.1", peer))),
            ("550 no", Failed, Beyond::Silence, Some((Action::Failed, "5.0.0", peer))),
            ("451 4.2.0 later", Delayed, Beyond::Silence, Some((Action::Delayed, "4.2.0", peer))),
            ("451 later", Delayed, Beyond::Silence, Some((Action::Delayed, "4.0.0", peer))),
            ("550 5.4.5 daily quota exceeded", Delayed, Beyond::Silence, Some((Action::Delayed, "4.0.0", peer))),
            ("451 4.2.0 later", Failed, Beyond::Silence, Some((Action::Failed, "4.4.7", peer))),
        ];
        for (reply, state, beyond, want) in table {
            let outcome = Reply::parse(format!("{reply}\r\n").as_bytes()).unwrap().outcome();
            let transport = Some(Via { host: "mx.example.com".into(), said: "mx.example.com:25 TLSv1.3 x".into() });
            let job = Outcome { transport, beyond, ..Outcome::all(1, outcome.clone()) };
            let got = told(&outcome, state, &job, until);
            assert_eq!(got.as_ref().map(|t| (t.action, t.status.as_str(), t.remote.as_deref())), want, "{reply}");
            if let Some(got) = got {
                assert_eq!((got.said.as_str(), got.until), (reply, (state == Delayed).then_some(until)));
            }
        }
        // What we say ourselves is nobody else's word.
        let ours = RecipientOutcome::Failed(Reply::refusal("5.6.3", "8BITMIME is not offered"));
        let via = Via { host: "mx".into(), said: "mx:25 in clear".into() };
        let job = Outcome { transport: Some(via), ..Outcome::all(1, ours.clone()) };
        assert_eq!(told(&ours, Failed, &job, until).unwrap().remote, None);
    }

    #[test]
    fn words_for_operators_do_not_reach_senders() {
        use RecipientOutcome::{Ambiguous, Delayed, Failed, Relayed};
        let secret = "smtp.x refuses the login of crm@x: /etc/x.password";
        let ours = |enhanced: Option<&str>| Reply::new(451, enhanced, secret);
        let heard = |reply: Reply| Reply { heard: true, ..reply };
        // What came of it, and whether its words are the sender's to read.
        let table = [
            (Delayed(ours(Some("4.7.0"))), false),
            (Delayed(ours(Some("5.7.8"))), false),
            (Delayed(ours(Some("4.3.0"))), false),
            (Delayed(ours(Some("4.4.1"))), false),
            (Delayed(ours(Some("4.4.4"))), false),
            (Delayed(ours(None)), false),
            (Ambiguous(ours(Some("4.4.2"))), false),
            (Failed(ours(Some("5.3.0"))), false),
            (Failed(ours(Some("5.3.4"))), true),
            (Failed(ours(Some("5.6.3"))), true),
            (Relayed(ours(Some("2.0.0"))), true),
            (Delayed(heard(ours(Some("4.7.0")))), true),
            (Failed(heard(ours(Some("5.3.0")))), true),
        ];
        for (outcome, want) in table {
            let job = Outcome::all(1, outcome.clone());
            let states = match outcome {
                Relayed(_) => vec![DeliveryState::Relayed],
                Failed(_) => vec![DeliveryState::Failed],
                _ => vec![DeliveryState::Delayed, DeliveryState::Failed],
            };
            for state in states {
                let got = told(&outcome, state, &job, Timestamp::UNIX_EPOCH).unwrap();
                assert_eq!(got.said.contains(secret), want, "{outcome:?} {state:?}: {got:?}");
                assert!(!got.said.is_empty(), "{outcome:?}");
            }
        }
        assert!(given_up().said.starts_with("given up"));
    }
}
