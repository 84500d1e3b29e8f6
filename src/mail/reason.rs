//! Why a mail was not filed as an ordinary entry: one closed list for store, log, metric, label and SMTP answer.

use std::fmt;

/// A typed reason. `code` is what programs see; `reply` is what an SMTP peer hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Larger than the size limit of the door or the channel.
    TooLarge,
    /// No header section that could be read, or a broken structure.
    Malformed,
    /// The header section is larger than the limit.
    HeaderTooLarge,
    /// No From field with an address in it (RFC 5322 section 3.6).
    MissingFrom,
    /// Sent to an intake address, and no header field names a known channel.
    NoChannel,
    /// The channel's policy refuses what fails SPF, DKIM or DMARC.
    AuthFailed,
    /// Whoever handed it in may not write as its From or Sender field says.
    SenderNotAllowed,
    /// The mail is one of our own that came back.
    LoopOwnMail,
    /// More Received fields than a mail that is not looping has (RFC 5321 section 6.3).
    LoopHops,
    /// Parsing took longer than its limit.
    ParseTimeout,
    /// More parts than the limit.
    TooManyParts,
    /// Parts nested deeper than the limit.
    TooDeep,
    /// The parser panicked or took the process down.
    ParserCrashed,
    /// The same mail was filed before: its Message-ID stands in this channel already.
    DuplicateMessageId,
    /// The same mail was filed before: it has no Message-ID, but its bytes stand in this channel already.
    DuplicateContent,
    /// The same mail was filed before: its Message-ID is another one, or is missing, but author, recipients, date, subject
    /// and content are the same.
    DuplicateFingerprint,
    /// The channel that it was accepted for is no longer configured.
    ChannelGone,
    /// The bytes on disk are not those that were accepted.
    Damaged,
    /// It is a probe of ours that came home, or an answer to one: it says what a relay does to header fields.
    Probe,
}

/// What an SMTP peer hears: reply code, enhanced status code (RFC 3463), text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonReply {
    pub code: u16,
    pub enhanced: &'static str,
    pub text: &'static str,
}

impl Reason {
    /// Every reason there is, for documentation, metrics and tests.
    pub const ALL: [Reason; 19] = [
        Self::TooLarge,
        Self::Malformed,
        Self::HeaderTooLarge,
        Self::MissingFrom,
        Self::NoChannel,
        Self::AuthFailed,
        Self::SenderNotAllowed,
        Self::LoopOwnMail,
        Self::LoopHops,
        Self::ParseTimeout,
        Self::TooManyParts,
        Self::TooDeep,
        Self::ParserCrashed,
        Self::DuplicateMessageId,
        Self::DuplicateContent,
        Self::DuplicateFingerprint,
        Self::ChannelGone,
        Self::Damaged,
        Self::Probe,
    ];

    /// The code that programs see.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::HeaderTooLarge => "header_too_large",
            Self::MissingFrom => "missing_from",
            Self::NoChannel => "no_channel",
            Self::AuthFailed => "auth_failed",
            Self::SenderNotAllowed => "sender_not_allowed",
            Self::LoopOwnMail => "loop_own_mail",
            Self::LoopHops => "loop_hops",
            Self::ParseTimeout => "parse_timeout",
            Self::TooManyParts => "too_many_parts",
            Self::TooDeep => "too_deep",
            Self::ParserCrashed => "parser_crashed",
            Self::DuplicateMessageId => "duplicate_message_id",
            Self::DuplicateContent => "duplicate_content",
            Self::DuplicateFingerprint => "duplicate_fingerprint",
            Self::ChannelGone => "channel_gone",
            Self::Damaged => "damaged",
            Self::Probe => "probe",
        }
    }

    /// The reason that a code names.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The answer for an SMTP peer whose mail is refused for this reason.
    pub fn reply(self) -> ReasonReply {
        let (code, enhanced, text) = match self {
            Self::TooLarge => (552, "5.3.4", "Message is larger than the limit"),
            Self::MissingFrom => (550, "5.6.0", "Message has no From field with an address"),
            Self::HeaderTooLarge => (550, "5.6.0", "Header section is larger than the limit"),
            Self::NoChannel => (550, "5.1.1", "No support address found among the recipients"),
            Self::AuthFailed => (550, "5.7.1", "Message failed the sender authentication this address asks for"),
            Self::SenderNotAllowed => (550, "5.7.1", "You may not write as the From or Sender field says"),
            Self::LoopOwnMail | Self::LoopHops => (554, "5.4.6", "Mail loop detected"),
            _ => (554, "5.6.0", "Message structure could not be read"),
        };
        ReasonReply { code, enhanced, text }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn codes_read_back_and_replies_are_permanent() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            let reply = reason.reply();
            assert!((500..600).contains(&reply.code) && reply.enhanced.starts_with("5."), "{reason}");
        }
        assert_eq!(Reason::from_code("nonsense"), None);
    }
}
