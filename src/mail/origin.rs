//! How a mail came to us: by which door, from which peer, and what its authentication results were.

use super::address::Address;
use super::auth::AuthResults;

/// The kinds of doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginKind {
    Smtp,
    Imap,
    Graph,
    Submission,
    Api,
}

impl OriginKind {
    /// The word for it in records, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Graph => "graph",
            Self::Submission => "submission",
            Self::Api => "api",
        }
    }

    /// The kind that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Smtp, Self::Imap, Self::Graph, Self::Submission, Self::Api]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// The remote message that a mail was pulled as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteMessage {
    /// The channel whose mailbox it lies in.
    pub channel: Address,
    /// UIDVALIDITY of the folder, or what stands for it in the ledger where mails of another mailbox had the same one,
    /// and UID (RFC 3501 section 2.3.1.1).
    pub validity: u32,
    pub uid: u32,
    /// It arrived before the mailbox was connected, so no automatic mail may answer it.
    pub backfill: bool,
}

/// How one mail came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub kind: OriginKind,
    /// The peer's IP address (after the PROXY protocol, if used), or the remote mailbox.
    pub peer: String,
    /// The name that the peer gave in HELO or EHLO.
    pub helo: Option<String>,
    /// TLS version and cipher, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`; `None` for plain text.
    pub tls: Option<String>,
    /// Subject of the TLS client certificate that was verified, if any.
    pub client_certificate: Option<String>,
    pub auth: AuthResults,
    /// Of a mail that was pulled: what it is in its mailbox.
    pub remote: Option<RemoteMessage>,
}
