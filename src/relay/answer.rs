//! What a reply means for a recipient. Pure.

use super::job::{About, RecipientOutcome, Reply, Throttled};

/// Words by which servers say that too much was sent, in lower case.
const THROTTLING_WORDS: &[&str] = &[
    "quota exceeded",
    "sending quota",
    "sending limit",
    "rate limit",
    "too many messages",
    "too many concurrent",
    "concurrent connections",
    "throttl",
    "too fast",
    "too quickly",
    "submission limit",
];

impl Reply {
    /// Reads the lines of a reply (RFC 5321 section 4.2). Where lines have different codes, the last one counts; the
    /// enhanced code (RFC 3463) is the last line's that has one, and is taken out of the text.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(raw);
        let (mut code, mut enhanced, mut words) = (None, None, Vec::new());
        for line in text.lines() {
            let digits = line.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            code = digits.parse::<u16>().ok();
            let rest = line.get(4..).unwrap_or_default().trim();
            match rest.split_once(' ').unwrap_or((rest, "")) {
                (first, behind) if is_enhanced(first) => {
                    enhanced = Some(first.to_owned());
                    words.push(behind.to_owned());
                }
                _ => words.push(rest.to_owned()),
            }
        }
        let code = code.filter(|code| (200..600).contains(code))?;
        // An enhanced code of another class than the reply's contradicts it, and says nothing.
        let enhanced =
            enhanced.filter(|enhanced| enhanced.as_bytes().first().map(|b| u16::from(b - b'0')) == Some(code / 100));
        Some(Self { heard: true, ..Self::new(code, enhanced.as_deref(), &words.join(" ")) })
    }

    /// Whether the peer says that we send too much: of Exchange 432 4.3.2, 451 4.7.500 and 550 5.1.90, of Gmail 421 4.7.28
    /// and 550 5.4.5, of others 421, 450 and 451 with words to that effect. What one recipient's mailbox takes is another
    /// matter: of Gmail 450 4.2.1, of others 452 4.2.2 when it is full.
    pub fn throttles(&self) -> bool {
        let lower = self.text.to_lowercase();
        let of_mailbox = match &self.enhanced {
            Some(enhanced) => enhanced.starts_with("4.2.") || enhanced.starts_with("5.2."),
            None => self.about == About::Recipient && lower.contains("mailbox"),
        };
        let says_so = !of_mailbox && THROTTLING_WORDS.iter().any(|word| lower.contains(word));
        match (self.code, self.enhanced.as_deref()) {
            (432, _) | (400..=499, Some("4.7.28" | "4.7.500")) => true,
            (421 | 450 | 451 | 452 | 454, _) => says_so,
            (550 | 552 | 554, Some("5.4.5" | "5.1.90")) => true,
            // Exchange's limit of a submitting mailbox, under the status of a full one.
            (550 | 554, _) => lower.contains("submissionquotaexceeded"),
            _ => false,
        }
    }

    /// What it means for the recipients that it is about.
    pub fn outcome(self) -> RecipientOutcome {
        match self.code {
            200..=299 => RecipientOutcome::Relayed(self),
            // A daily quota is refused with 550, and is over a day later.
            500..=599 if !self.throttles() => RecipientOutcome::Failed(self),
            _ => RecipientOutcome::Delayed(self),
        }
    }

    /// Whether it is a yes.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// `class.subject.detail` (RFC 3463 section 2).
fn is_enhanced(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.as_slice(), ["2" | "4" | "5", _, _]) && parts.iter().all(number)
}

/// What the outcomes of a job say about how much is sent.
pub(super) fn throttled<'a>(outcomes: impl IntoIterator<Item = &'a RecipientOutcome>) -> Option<Throttled> {
    let reply = outcomes.into_iter().map(RecipientOutcome::reply).find(|reply| reply.throttles())?;
    Some(Throttled { retry_after: None, said: reply.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_as_servers_write_them() {
        let table: &[(&str, Option<&str>)] = &[
            ("250 2.1.5 Ok\r\n", Some("250 2.1.5 Ok")),
            ("250\r\n", Some("250 ")),
            (
                "550-5.7.708 Access denied,\r\n550 5.7.708 see https://x.example\r\n",
                Some("550 5.7.708 Access denied, see https://x.example"),
            ),
            ("550-first\r\n550 second\r\n", Some("550 first second")),
            ("250-fine\r\n550 5.1.1 not fine\r\n", Some("550 5.1.1 fine not fine")),
            ("250 5.1.1 a contradiction\r\n", Some("250 a contradiction")),
            ("550 5.1.1\r\n", Some("550 5.1.1 ")),
            ("550 5.1.x no code\r\n", Some("550 5.1.x no code")),
            ("HTTP/1.1 400 Bad Request\r\n", None),
            ("999 what\r\n", None),
            ("", None),
        ];
        for (raw, want) in table {
            assert_eq!(Reply::parse(raw.as_bytes()).map(|r| r.to_string()).as_deref(), *want, "{raw:?}");
        }
    }

    #[test]
    fn what_throttles_and_what_refuses() {
        let table: &[(&str, &str, bool)] = &[
            ("250 2.0.0 ok", "relayed", false),
            ("550 5.1.1 no such user", "failed", false),
            ("450 4.2.0 greylisted", "delayed", false),
            ("421 4.3.0 try later", "delayed", false),
            ("421 4.7.28 unusual rate of mail", "delayed", true),
            ("432 4.3.2 Concurrent connections limit exceeded", "delayed", true),
            ("550 5.4.5 Daily user sending quota exceeded", "delayed", true),
            ("450 4.2.1 receiving mail at a rate that prevents additional messages", "delayed", false),
            ("452 4.2.2 mailbox quota exceeded", "delayed", false),
            ("421 4.3.2 Service shutting down", "delayed", false),
            ("421 4.3.2 too many concurrent connections", "delayed", true),
            ("451 4.7.500 Server busy. Please try again later", "delayed", true),
            ("550 5.1.90 Your message can't be sent because you've reached your daily limit", "delayed", true),
            ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", "delayed", true),
            ("554 5.2.2 mailbox full", "failed", false),
            ("550 5.1.8 Access denied, bad outbound sender", "failed", false),
            ("452 quota exceeded", "delayed", true),
            ("354 go", "delayed", false),
        ];
        for (raw, word, throttles) in table {
            let reply = Reply::parse(format!("{raw}\r\n").as_bytes()).unwrap();
            assert_eq!((reply.clone().outcome().as_str(), reply.throttles()), (*word, *throttles), "{raw}");
        }
        let full = Reply::parse(b"452 mailbox quota exceeded\r\n").unwrap().about(About::Recipient);
        assert!(!full.throttles());
    }
}
