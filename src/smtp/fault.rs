//! Everything that the door refuses, as one closed list for replies, logs and metrics.

/// What was refused, and so which limit or rule did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    TooManyConnections,
    TooManyFromPeer,
    TooManyMails,
    TooManyCommands,
    TooManyBadCommands,
    TooManyRecipients,
    CommandTooLong,
    BrokenLine,
    UnknownCommand,
    OtherProtocol,
    BadSyntax,
    BadSequence,
    NotAllowed,
    LoginFailed,
    TlsRequired,
    Relay,
    UnknownRecipient,
    AnnouncedSize,
    ActualSize,
    DataLineTooLong,
    BareNewline,
    IdleTimeout,
    TransactionTimeout,
    AfterStartTls,
    TlsHandshake,
    ProxyHeader,
    ShuttingDown,
}

impl Fault {
    /// The word for it in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyFromPeer => "too_many_connections_from_peer",
            Self::TooManyMails => "too_many_mails",
            Self::TooManyCommands => "too_many_commands",
            Self::TooManyBadCommands => "too_many_bad_commands",
            Self::TooManyRecipients => "too_many_recipients",
            Self::CommandTooLong => "command_too_long",
            Self::BrokenLine => "broken_line",
            Self::UnknownCommand => "unknown_command",
            Self::OtherProtocol => "other_protocol",
            Self::BadSyntax => "bad_syntax",
            Self::BadSequence => "bad_sequence",
            Self::NotAllowed => "not_allowed",
            Self::LoginFailed => "login_failed",
            Self::TlsRequired => "tls_required",
            Self::Relay => "relay",
            Self::UnknownRecipient => "unknown_recipient",
            Self::AnnouncedSize => "announced_size",
            Self::ActualSize => "actual_size",
            Self::DataLineTooLong => "data_line_too_long",
            Self::BareNewline => "bare_newline",
            Self::IdleTimeout => "idle_timeout",
            Self::TransactionTimeout => "transaction_timeout",
            Self::AfterStartTls => "after_starttls",
            Self::TlsHandshake => "tls_handshake",
            Self::ProxyHeader => "proxy_header",
            Self::ShuttingDown => "shutting_down",
        }
    }
}
