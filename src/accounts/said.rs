//! What the words of an IMAP server mean: most of them have no code, and what a code says is said in words as well.
//!
//! Pure. Codes are those of RFC 3501 and RFC 5530; the words follow what Gmail, Microsoft 365, Yahoo, Dovecot and Cyrus
//! are known to say. Words that say nothing known are never taken for a wrong password: trouble passes, and whoever takes
//! it for the operator's fault stops a mailbox that would have worked again by itself.

use std::time::Duration;

use super::problem::Cause;

/// Words in lower case and their cause, the first that fits counts. Throttling stands before codes, because Yahoo puts
/// it behind the code of a wrong password.
const KNOWN: &[(&str, Cause)] = &[
    ("application-specific password", Cause::AppPasswordNeeded),
    ("app password", Cause::AppPasswordNeeded),
    ("web login required", Cause::AppPasswordNeeded),
    ("imap access is disabled", Cause::ImapDisabled),
    ("not enabled for imap", Cause::ImapDisabled),
    ("imap is disabled", Cause::ImapDisabled),
    ("user is authenticated but not connected", Cause::NoAccess),
    ("[throttled]", Cause::Throttled),
    ("is throttled", Cause::Throttled),
    ("was throttled", Cause::Throttled),
    ("suggested backoff time", Cause::Throttled),
    ("too many simultaneous connections", Cause::Throttled),
    ("too many connections", Cause::Throttled),
    ("maximum number of connections", Cause::Throttled),
    ("exceeded command or bandwidth limits", Cause::Throttled),
    ("exceeded bandwidth", Cause::Throttled),
    ("rate limit", Cause::Throttled),
    ("too many login", Cause::Throttled),
    ("too many failed", Cause::Throttled),
    ("[limit]", Cause::Throttled),
    ("[overquota]", Cause::MailboxFull),
    ("quota exceeded", Cause::MailboxFull),
    ("[unavailable]", Cause::ProviderTrouble),
    ("[inuse]", Cause::ProviderTrouble),
    ("[serverbug]", Cause::ProviderTrouble),
    ("[contactadmin]", Cause::ProviderTrouble),
    ("server unavailable", Cause::ProviderTrouble),
    ("service unavailable", Cause::ProviderTrouble),
    ("server busy", Cause::ProviderTrouble),
    ("temporar", Cause::ProviderTrouble),
    ("[authenticationfailed]", Cause::WrongPassword),
    ("[expired]", Cause::WrongPassword),
    ("[authorizationfailed]", Cause::NoAccess),
    ("[noperm]", Cause::NoAccess),
    ("[privacyrequired]", Cause::Tls),
    ("try again", Cause::ProviderTrouble),
    ("internal error", Cause::ProviderTrouble),
    ("can only be read", Cause::FolderMissing),
    ("authenticationfailed", Cause::WrongPassword),
    ("invalid credentials", Cause::WrongPassword),
    ("authentication failed", Cause::WrongPassword),
    ("authenticate failed", Cause::WrongPassword),
    ("login failed", Cause::WrongPassword),
];

/// What else the answer to a login says of the credential. Anywhere else these words would mean something different.
const AT_LOGIN: &[(&str, Cause)] = &[
    ("no password on this connection", Cause::Tls),
    ("no passwords from anybody", Cause::ImapDisabled),
    // A server that does not take a token tells so in JSON (RFC 7628 section 3.2.2); Google's status is an HTTP one.
    ("invalid_token", Cause::WrongPassword),
    ("insufficient_scope", Cause::WrongPassword),
    ("\"status\":\"4", Cause::WrongPassword),
    ("password", Cause::WrongPassword),
    ("credentials", Cause::WrongPassword),
    ("authentication failure", Cause::WrongPassword),
    ("authentication unsuccessful", Cause::WrongPassword),
    ("authentication error", Cause::WrongPassword),
    ("login incorrect", Cause::WrongPassword),
    ("incorrect login", Cause::WrongPassword),
    ("invalid login", Cause::WrongPassword),
    ("login invalid", Cause::WrongPassword),
    ("login error", Cause::WrongPassword),
    ("bad login", Cause::WrongPassword),
    ("login denied", Cause::WrongPassword),
    ("user unknown", Cause::WrongPassword),
    ("unknown user", Cause::WrongPassword),
    ("no such user", Cause::WrongPassword),
    ("invalid user", Cause::WrongPassword),
];

/// What servers say where a folder is named that is not there. Anywhere else these words would mean something different.
const NO_FOLDER: &[&str] = &[
    "nonexistent",
    "non-existent",
    "doesn't exist",
    "does not exist",
    "unknown mailbox",
    "unknown folder",
    "no such mailbox",
    "no such folder",
    "mailbox not found",
    "folder not found",
    "can't find mailbox",
    "invalid mailbox name",
    "[trycreate]",
];

/// Words that are about the account or the whole server, beside those of throttling and of a full mailbox. An internal
/// error is not among them: servers say that of one mail that they cannot read as well.
const FOR_ALL: &[&str] =
    &["[unavailable]", "[inuse]", "server unavailable", "service unavailable", "server busy", "not connected"];

/// The longest wait that a server's words are believed to ask for.
const LONGEST: Duration = Duration::from_secs(86_400);

impl Cause {
    /// The cause behind the words of an IMAP server, `otherwise` where they say nothing that is known.
    pub fn from_imap(said: &str, otherwise: Self) -> Self {
        find(KNOWN, &said.to_lowercase()).unwrap_or(otherwise)
    }

    /// The cause behind the refusal of a login. It is the credential only if the server says so: anything else may pass.
    pub fn from_login(said: &str) -> Self {
        let said = said.to_lowercase();
        find(KNOWN, &said).or_else(|| find(AT_LOGIN, &said)).unwrap_or(Self::ProviderTrouble)
    }
}

/// What the refusal of a command that names a folder says of whether the folder is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It is not there.
    Told,
    /// The refusal is about something else.
    Excluded,
    /// The words say nothing known.
    Unknown,
}

/// Whether a server says that the folder that was named is not there.
pub fn absence(said: &str) -> Absence {
    let said = said.to_lowercase();
    match find(KNOWN, &said) {
        _ if NO_FOLDER.iter().any(|words| said.contains(words)) => Absence::Told,
        Some(_) => Absence::Excluded,
        None => Absence::Unknown,
    }
}

fn find(table: &[(&str, Cause)], said: &str) -> Option<Cause> {
    table.iter().find(|(words, _)| said.contains(words)).map(|(_, cause)| *cause)
}

/// Whether a server says what it would say of any mail, so that it is not about the one that was asked for.
pub fn holds_for_all(said: &str) -> bool {
    let said = said.to_lowercase();
    matches!(find(KNOWN, &said), Some(Cause::Throttled | Cause::MailboxFull))
        || FOR_ALL.iter().any(|words| said.contains(words))
}

/// How long a server asks to be left alone: Exchange's "Suggested Backoff Time: 299961 milliseconds". At most a day.
pub fn wait_asked(said: &str) -> Option<Duration> {
    const BEFORE: &str = "backoff time:";
    let said = said.to_lowercase();
    let rest = said[said.find(BEFORE)? + BEFORE.len()..].trim_start();
    let (number, unit) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    // A number that is too long to be one asks for very long.
    let number: u64 = if number.is_empty() { return None } else { number.parse().unwrap_or(u64::MAX) };
    let unit = unit.trim_start();
    let wait = if unit.starts_with("milli") || unit.starts_with("ms") {
        Duration::from_millis(number)
    } else {
        Duration::from_secs(number)
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_known_servers_have_their_cause() {
        let table = [
            (
                "[ALERT] Application-specific password required: https://support.google.com/x (Failure)",
                Cause::AppPasswordNeeded,
            ),
            ("[AUTHENTICATIONFAILED] Invalid credentials (Failure)", Cause::WrongPassword),
            ("[ALERT] IMAP access is disabled for your domain. (Failure)", Cause::ImapDisabled),
            ("AUTHENTICATE failed.", Cause::WrongPassword),
            ("User is authenticated but not connected.", Cause::NoAccess),
            ("LOGIN failed.", Cause::WrongPassword),
            ("[AUTHENTICATIONFAILED] Authentication failed.", Cause::WrongPassword),
            ("[AUTHENTICATIONFAILED] LOGIN Rate limit hit.", Cause::Throttled),
            ("[AUTHENTICATIONFAILED] Check your password and try again", Cause::WrongPassword),
            ("[UNAVAILABLE] Temporary authentication failure.", Cause::ProviderTrouble),
            ("[OVERQUOTA] Quota exceeded (mailbox for user is full)", Cause::MailboxFull),
            ("[OVERQUOTA] Account exceeded bandwidth limits. (Failure)", Cause::Throttled),
            ("[ALERT] Too many simultaneous connections. (Failure)", Cause::Throttled),
            ("[THROTTLED] Request was throttled", Cause::Throttled),
            ("Request is throttled. Suggested Backoff Time: 299961 milliseconds", Cause::Throttled),
            ("[ALERT] Account exceeded command or bandwidth limits. (Failure)", Cause::Throttled),
            ("[LIMIT] Too many", Cause::Throttled),
            ("Server Unavailable. 15", Cause::ProviderTrouble),
            ("[INUSE] Mailbox is locked", Cause::ProviderTrouble),
            ("[SERVERBUG] Internal error occurred.", Cause::ProviderTrouble),
            ("[CONTACTADMIN] x", Cause::ProviderTrouble),
            ("[AUTHORIZATIONFAILED] No such authorization-ID", Cause::NoAccess),
            ("[NOPERM] Access denied", Cause::NoAccess),
            ("[EXPIRED] That password isn't valid any more", Cause::WrongPassword),
            ("[PRIVACYREQUIRED] Connection offers no privacy", Cause::Tls),
            ("Meow.", Cause::Protocol),
        ];
        for (said, want) in table {
            assert_eq!(Cause::from_imap(said, Cause::Protocol), want, "{said}");
        }
    }

    #[test]
    fn a_refused_login_is_the_credential_only_if_the_server_says_so() {
        let table = [
            ("Login incorrect", Cause::WrongPassword),
            ("LOGIN Login error or password error", Cause::WrongPassword),
            ("Username or password is incorrect", Cause::WrongPassword),
            (r#"SASL authentication failed {"status":"invalid_token","scope":"mail"}"#, Cause::WrongPassword),
            (r#"no {"status":"400","schemes":"Bearer"}"#, Cause::WrongPassword),
            ("the server takes no password on this connection; use TLS", Cause::Tls),
            ("the server takes no passwords from anybody (LOGINDISABLED): connect with OAuth", Cause::ImapDisabled),
            ("Request is throttled. Suggested Backoff Time: 1 milliseconds", Cause::Throttled),
            ("Server Unavailable. 15", Cause::ProviderTrouble),
            ("[INUSE] no", Cause::ProviderTrouble),
            ("[CONTACTADMIN] no", Cause::ProviderTrouble),
            ("Command Argument Error. 11", Cause::ProviderTrouble),
            ("Meow.", Cause::ProviderTrouble),
        ];
        for (said, want) in table {
            assert_eq!(Cause::from_login(said), want, "{said}");
        }
    }

    #[test]
    fn a_folder_is_missing_only_if_the_server_says_so() {
        let table = [
            ("[NONEXISTENT] Unknown Mailbox: Inbox2 (Failure)", Absence::Told),
            ("Mailbox doesn't exist: Inbox2", Absence::Told),
            ("Mailbox does not exist", Absence::Told),
            ("Inbox2 doesn't exist.", Absence::Told),
            ("No such mailbox", Absence::Told),
            ("[INUSE] Mailbox is locked", Absence::Excluded),
            ("Server Unavailable. 15", Absence::Excluded),
            ("[NOPERM] Access denied", Absence::Excluded),
            ("the folder can only be read", Absence::Excluded),
            ("SELECT failed", Absence::Unknown),
        ];
        for (said, want) in table {
            assert_eq!(absence(said), want, "{said}");
        }
        // Who is not there is not a folder.
        assert_eq!(Cause::from_login("[AUTHENTICATIONFAILED] user doesn't exist"), Cause::WrongPassword);
    }

    #[test]
    fn what_holds_for_all_mails_is_about_none() {
        let table = [
            ("Request is throttled. Suggested Backoff Time: 9 milliseconds", true),
            ("Server Unavailable. 15", true),
            ("[UNAVAILABLE] x", true),
            ("[INUSE] x", true),
            ("[LIMIT] x", true),
            ("[OVERQUOTA] x", true),
            ("[SERVERBUG] Internal error occurred.", false),
            ("Server error", false),
        ];
        for (said, want) in table {
            assert_eq!(holds_for_all(said), want, "{said}");
        }
    }

    #[test]
    fn a_wait_is_read_and_bounded() {
        let table = [
            ("Request is throttled. Suggested Backoff Time: 299961 milliseconds", Some(299_961)),
            ("suggested backoff time: 30 seconds", Some(30_000)),
            ("Suggested Backoff Time: 99999999999999999999999 milliseconds", Some(86_400_000)),
            ("Suggested Backoff Time: soon", None),
            ("Suggested Backoff Time:", None),
            ("Server Unavailable. 15", None),
        ];
        for (said, want) in table {
            assert_eq!(wait_asked(said), want.map(Duration::from_millis), "{said}");
        }
    }
}
