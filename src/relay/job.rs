//! What a relay is asked to do, and what became of it. Values only.

use std::sync::Arc;
use std::time::Duration;

use crate::mail::Address;

/// One mail for one relay, with the recipients that it is to be handed on for.
#[derive(Clone, Debug)]
pub struct Job {
    /// The entry's id; it names the job in logs and is never sent to a peer.
    pub id: String,
    /// The return path; `None` is the null sender.
    pub sender: Option<Address>,
    pub recipients: Vec<JobRecipient>,
    /// The mail as it is to arrive: a relay puts trace fields or a signature in front of it and changes nothing in it.
    pub bytes: Arc<[u8]>,
    /// Envelope or header fields are in UTF-8 (RFC 6531): the peer must take SMTPUTF8.
    pub smtputf8: bool,
    /// The mail holds octets above 127: the peer must take 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// RET and ENVID for delivery reports (RFC 3461 sections 4.3 and 4.4).
    pub ret: Option<String>,
    pub envid: Option<String>,
    /// The channel whose mailbox's credentials are used, for a relay that logs in as the sender.
    pub account: Option<Address>,
}

/// One recipient, with NOTIFY and ORCPT (RFC 3461 sections 4.1 and 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecipient {
    pub address: Address,
    pub notify: Option<String>,
    pub orcpt: Option<String>,
}

/// What became of a job. A refused delivery is a value, and so is trouble of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// One for each recipient of the job, in the same order.
    pub recipients: Vec<RecipientOutcome>,
    /// The peer said that too much was sent; its count differs from ours.
    pub throttled: Option<Throttled>,
    /// Who answered.
    pub transport: Option<Via>,
    /// Who tells the sender from here on.
    pub beyond: Beyond,
}

/// Who answered, and by what connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The server's name or address, or the path of a Maildir.
    pub host: String,
    /// With port and protection, such as `mx.example.com:25 TLSv1.3 …`.
    pub said: String,
}

/// What lies behind a relay that has taken a mail: who tells its sender what becomes of it (RFC 3461 section 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond {
    /// A server that knows no NOTIFY: nobody will say that it was delivered.
    #[default]
    Silence,
    /// A server that was handed the wishes of the sender, and reports itself.
    Reports,
    /// Nothing: the mail is where it was to go.
    Nothing,
}

/// A peer that wants less mail for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// How long it asked us to wait, where it said so.
    pub retry_after: Option<Duration>,
    pub said: String,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// The peer has taken responsibility.
    Relayed(Reply),
    /// Not now; trying again may work.
    Delayed(Reply),
    /// Not ever.
    Failed(Reply),
    /// The whole mail was sent and no answer came: the peer may have taken it or not.
    Ambiguous(Reply),
}

impl RecipientOutcome {
    /// The answer behind it.
    pub fn reply(&self) -> &Reply {
        match self {
            Self::Relayed(reply) | Self::Delayed(reply) | Self::Failed(reply) | Self::Ambiguous(reply) => reply,
        }
    }

    /// The word that metrics and logs use.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Relayed(_) => "relayed",
            Self::Delayed(_) => "delayed",
            Self::Failed(_) => "failed",
            Self::Ambiguous(_) => "ambiguous",
        }
    }
}

/// An answer: the peer's, or one of our own in the same shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// RFC 5321 section 4.2.
    pub code: u16,
    /// RFC 3463, such as `5.1.1`.
    pub enhanced: Option<String>,
    /// Lines are joined by spaces, and it is cut to [`Reply::LONGEST`] bytes.
    pub text: String,
    /// The peer said it; otherwise it is of our own making.
    pub heard: bool,
    pub about: About,
}

/// Whom a reply speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum About {
    /// The whole mail.
    #[default]
    Mail,
    /// The connection, before anything of a mail was said.
    Connection,
    /// The sender: it answers MAIL.
    Sender,
    /// One recipient: it answers RCPT.
    Recipient,
}

impl Reply {
    /// The most bytes of a text that are kept.
    pub const LONGEST: usize = 500;

    /// A reply with its text on one line, without control characters, and cut.
    pub fn new(code: u16, enhanced: Option<&str>, text: &str) -> Self {
        let mut clean = String::with_capacity(text.len().min(Self::LONGEST));
        for word in text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()) {
            if !clean.is_empty() {
                clean.push(' ');
            }
            clean.push_str(word);
        }
        if clean.len() > Self::LONGEST {
            let cut = (0..=Self::LONGEST - 3).rev().find(|at| clean.is_char_boundary(*at)).unwrap_or(0);
            clean.truncate(cut);
            clean.push('…');
        }
        Self { code, enhanced: enhanced.map(str::to_owned), text: clean, heard: false, about: About::Mail }
    }

    /// The same, as it answers a command about somebody.
    pub fn about(self, about: About) -> Self {
        Self { about, ..self }
    }

    /// Trouble on our side or on the way, in the shape of a temporary refusal.
    pub fn trouble(enhanced: &str, text: &str) -> Self {
        Self::new(451, Some(enhanced), text)
    }

    /// A refusal for good that we give ourselves.
    pub fn refusal(enhanced: &str, text: &str) -> Self {
        Self::new(554, Some(enhanced), text)
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = &self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text)
    }
}

impl Outcome {
    /// The same for all recipients of a job.
    pub fn all(recipients: usize, outcome: RecipientOutcome) -> Self {
        let recipients = vec![outcome; recipients];
        Self { recipients, throttled: None, transport: None, beyond: Beyond::Silence }
    }

    /// Whether the peer has taken the mail, if only for one recipient.
    pub fn is_taken(&self) -> bool {
        self.recipients.iter().any(|one| matches!(one, RecipientOutcome::Relayed(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_one_clean_line_of_bounded_length() {
        let reply = Reply::new(550, Some("5.1.1"), "no such\r\nuser\there  now ");
        assert_eq!(reply.to_string(), "550 5.1.1 no such user here now");
        let long = Reply::new(250, None, &"ü".repeat(400));
        assert!(long.text.len() <= Reply::LONGEST && long.text.ends_with('…'), "{}", long.text.len());
    }
}
