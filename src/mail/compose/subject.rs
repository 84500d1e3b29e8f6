//! Subjects of answers (RFC 5322 section 3.6.5): one "Re: " in front, whatever stood there before.

use super::{MAX_SUBJECT, one_line};

/// What mail programs of the world put before the subject of an answer, in lower case.
const ANSWERS: &[&str] = &[
    "re", "aw", "antw", "antwort", "sv", "vs", "ref", "rif", "odp", "ynt", "bls", "res", "回复", "答复", "回覆",
    "返信", "тема",
];

/// The subject of an answer to something of this title.
pub fn answer(title: &str) -> String {
    let title = one_line(title, MAX_SUBJECT);
    let mut rest = title.as_str();
    while let Some(inner) = without_prefix(rest) {
        rest = inner;
    }
    one_line(&format!("Re: {rest}"), MAX_SUBJECT)
}

/// A subject that was chosen for an answer: as it is, but with one prefix where it has several.
pub fn chosen(subject: &str) -> String {
    let line = one_line(subject, MAX_SUBJECT);
    if without_prefix(&line).is_some() { answer(&line) } else { line }
}

/// The subject without one prefix such as `Re: `, `AW:`, `Re[2]: ` or `RE : `.
fn without_prefix(subject: &str) -> Option<&str> {
    let (prefix, rest) = subject.split_once([':', '：'])?;
    let word = prefix.trim_end();
    let word = word.strip_suffix([']', ')']).map_or(word, |counted| {
        let bare = counted.trim_end_matches(|c: char| c.is_ascii_digit());
        bare.strip_suffix(['[', '(']).unwrap_or(word)
    });
    ANSWERS.contains(&word.to_lowercase().as_str()).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn one_prefix_is_enough() {
        let table = [
            ("Printer", "Re: Printer"),
            ("Re: Printer", "Re: Printer"),
            ("RE: AW: Re[2]: re : Printer", "Re: Printer"),
            ("回复：打印机", "Re: 打印机"),
            ("Fwd: Printer", "Re: Fwd: Printer"),
            ("Reset: does not work", "Re: Reset: does not work"),
            ("12: 30", "Re: 12: 30"),
            ("a\r\nBcc: eve@evil.example", "Re: a Bcc: eve@evil.example"),
            ("", "Re:"),
        ];
        for (title, want) in table {
            assert_eq!(answer(title), want, "{title}");
        }
        assert_eq!(super::chosen("Re: Re: Printer"), "Re: Printer");
        assert_eq!(super::chosen("[12] Printer"), "[12] Printer");
    }
}
