//! A session is fed by the input: lines while it wants lines, other events where it wants those. It must never take a
//! mail without sender and recipients in order, and every reply must be well formed.

use jiff::Timestamp;
use ticketgate::mail::{Address, MailId, Reason};
use ticketgate::smtp::Config;
use ticketgate::smtp::line::{Frame, LineReader};
use ticketgate::smtp::reply::Replies;
use ticketgate::smtp::session::{Admission, Ending, Next, Outcome, Permission, Rules, Session, Tls};
use ticketgate::ticket::Directory;
use ticketgate::ticket::channel::{AuthPolicy, Channel};

pub fn run(data: &[u8]) {
    let Some((&start, mut rest)) = data.split_first() else { return };
    let directory = directory();
    let tls = [Tls::Absent, Tls::Offered, Tls::Required, Tls::On][usize::from(start & 3)];
    let permission = if start & 4 == 0 { Permission::Allowed } else { Permission::Denied };
    let rules = Rules { max_recipients: 3, max_commands: 40, ..Rules::new(&Config::default()) };
    let (mut session, mut lines, mut out) =
        (Session::new(rules, tls, permission), LineReader::default(), Replies::default());
    session.greet("mx.example.com", &mut out);
    let mut next = Next::Line;
    loop {
        let step = match next {
            Next::Line => match lines.next(rest, 200) {
                Frame::Line(length) => {
                    let line = &rest[..length];
                    rest = &rest[length + 2..];
                    session.line(line, "mx.example.com", &directory, &mut out)
                }
                Frame::Incomplete { drop: 0 } => break,
                Frame::Incomplete { drop } => {
                    rest = &rest[drop..];
                    continue;
                }
                Frame::Fault(fault) => session.broken_line(fault, &mut out),
            },
            Next::Admit { .. } => match event(&mut rest) {
                0..=9 => session.admit(Admission::TooMany, &mut out),
                10..=19 => session.admit(Admission::NoRoom, &mut out),
                _ => session.admit(Admission::Granted, &mut out),
            },
            Next::StartTls => {
                let step = session.starttls(rest.len(), &mut out);
                if step.next != Next::Close {
                    session.tls_established(Permission::Allowed);
                    assert!(!session.in_transaction() && session.helo().is_none());
                }
                step
            }
            Next::Data | Next::Chunk { last: true, .. } => finish(&mut session, event(&mut rest), &mut out),
            Next::Chunk { size, last: false } => match event(&mut rest) {
                200.. => finish(&mut session, 1, &mut out),
                _ => {
                    may_take(&session);
                    session.chunk_taken(size, &mut out)
                }
            },
            Next::Skip { size } => {
                rest = &rest[rest.len().min(usize::try_from(size).unwrap_or(usize::MAX))..];
                next = Next::Line;
                continue;
            }
            Next::Close => break,
        };
        next = step.next;
    }
    if next != Next::Close {
        session.end(if start & 8 == 0 { Ending::Idle } else { Ending::Shutdown }, &mut out);
    }
    well_formed(out.as_bytes());
}

fn finish(session: &mut Session, event: u8, out: &mut Replies) -> ticketgate::smtp::session::Step {
    may_take(session);
    let outcome = match event % 6 {
        0 => Outcome::Accepted(MailId::fresh(Timestamp::UNIX_EPOCH)),
        1 => Outcome::Refused(Reason::ALL[usize::from(event) % Reason::ALL.len()]),
        2 => Outcome::Full,
        3 => Outcome::Trouble,
        4 => Outcome::LineTooLong,
        _ => Outcome::BareNewline,
    };
    let step = session.finish(outcome, out);
    assert!(!session.in_transaction());
    step
}

fn may_take(session: &Session) {
    let envelope = session.envelope().expect("a mail without a transaction");
    assert!(session.helo().is_some() && (1..=3).contains(&envelope.rcpt_to.len()));
    assert!(envelope.rcpt_to.iter().all(|address| directory().find(address).is_some()), "a relay");
}

fn event(rest: &mut &[u8]) -> u8 {
    match rest.split_first() {
        Some((&event, behind)) => {
            *rest = behind;
            event
        }
        None => 255,
    }
}

fn well_formed(replies: &[u8]) {
    let text = std::str::from_utf8(replies).expect("replies are text");
    assert!(text.ends_with("\r\n"));
    for line in text.split_terminator("\r\n") {
        assert!(line.len() < 510 && !line.contains(['\r', '\n']), "{line:?}");
        let code: u16 = line[..3].parse().expect("a reply code");
        assert!((200..600).contains(&code) && matches!(line.as_bytes()[3], b' ' | b'-'), "{line:?}");
        if code >= 400 {
            assert_eq!(line.as_bytes()[4], line.as_bytes()[0], "{line:?}: the enhanced status has another class");
        }
    }
}

fn directory() -> Directory {
    let channel = Channel {
        address: Address::parse("support@example.com").expect("an address"),
        name: "Support".into(),
        aliases: Vec::new(),
        plus_addresses: true,
        queue: "Support".into(),
        auth_policy: AuthPolicy::Record,
        max_mail_bytes: 1 << 20,
        relay: None,
        attachments_relay: None,
        acknowledge: false,
    };
    Directory::new(vec![channel], Vec::new(), Vec::new(), None)
}
