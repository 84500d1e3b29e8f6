//! Sender and recipients of one SMTP transaction (RFC 5321 section 2.3.1).

use super::Address;

/// Who sent a mail and to whom, as the transaction said it; what the header fields claim is another matter.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Envelope {
    /// The reverse-path; `None` is the null sender `<>` of reports and automatic mail.
    pub mail_from: Option<Address>,
    /// The forward-paths, plus details kept.
    pub rcpt_to: Vec<Address>,
}
