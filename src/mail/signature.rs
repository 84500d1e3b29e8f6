//! Where a text ends that somebody wrote: its signature, the advertisement of a mail program, the footer of a list.

use super::attribution::{begins_with_any, plain};

/// The longest signature behind dashes without the space that should follow them, in lines.
const SIGNATURE_LINES: usize = 12;

/// The longest line that a mail program adds, in bytes.
const LONGEST_ADDED: usize = 200;

/// How lines begin that mail programs add for telephones, in lower case: nobody begins a sentence of theirs like this.
const ADDED: &[&str] = &[
    "sent from my ",
    "sent from mail for",
    "sent from outlook",
    "sent from yahoo",
    "sent from windows mail",
    "sent from proton",
    "sent from gmail",
    "sent from samsung",
    "get outlook for",
    "from my iphone",
    "from my ipad",
    "von meinem ",
    "von meiner ",
    "gesendet von ",
    "gesendet mit ",
    "gesendet via ",
    "diese nachricht wurde von mein",
    "envoyé de mon ",
    "envoyé depuis ",
    "envoyé à partir de ",
    "télécharger outlook",
    "enviado desde ",
    "enviado do meu ",
    "enviado a partir do ",
    "enviado de mi ",
    "obtener outlook",
    "obter o outlook",
    "enviat des ",
    "verzonden vanaf ",
    "verzonden met ",
    "verstuurd vanaf ",
    "inviato da ",
    "inviato dal ",
    "ottieni outlook",
    "wysłane z ",
    "wysłano z ",
    "skickat från ",
    "skickades från ",
    "från min ",
    "sendt fra min ",
    "sendt fra ",
    "lähetetty ",
    "odesláno z ",
    "odoslané z ",
    "poslano s ",
    "trimis de pe ",
    "elküldve ",
    "gönderildi ",
    "στάλθηκε από ",
    "отправлено с ",
    "отправлено из ",
    "надіслано з ",
    "נשלח מה",
    "أُرسلت من ",
    "dikirim dari ",
    "đã gửi từ ",
    "发自我的",
    "從我的",
    "从我的",
    "傳送自",
    "iphoneから送信",
    "ipadから送信",
    "나의 iphone에서 보냄",
    "내 iphone에서 보냄",
];

/// Less certain beginnings, which must be a paragraph of their own at the end.
const PERHAPS_ADDED: &[&str] = &["sent from ", "sent via ", "sent with ", "sent by ", "sent using ", "from my "];

/// How footers begin that lists add, in lower case.
const FOOTERS: &[&str] = &[
    "you received this message because you are subscribed",
    "you are receiving this because you ",
    "sie erhalten diese nachricht, weil ",
    "to unsubscribe from this group",
    "this email has been checked for viruses by",
    "diese e-mail wurde von avast",
];

/// Whether the signature begins with the line at `at`: "-- " alone on its line does that (RFC 3676 section 4.3); many
/// programs lose the space. So does the footer of a list.
pub fn begins(lines: &[&str], at: usize) -> bool {
    let line = lines[at].trim_end_matches('\r');
    if matches!(line, "-- " | "--\u{a0}") || (plain(line) == "--" && lines.len() - at <= SIGNATURE_LINES) {
        return true;
    }
    let line = plain(line);
    let rule = line.len() >= 30 && line.bytes().all(|byte| byte == b'_');
    let next = lines.get(at + 1).map(|next| plain(next)).unwrap_or_default();
    (rule && next.len() < LONGEST_ADDED && next.to_lowercase().contains("mailing list")) || is_footer(line)
}

fn is_footer(line: &str) -> bool {
    line.len() < 2 * LONGEST_ADDED && FOOTERS.iter().any(|start| starts_with(line, start))
}

/// Whether a mail program has added the line at `at`.
pub fn is_added(lines: &[&str], at: usize) -> bool {
    let line = plain(lines[at]).trim_matches(['(', ')', '<', '>', '[', ']', '*', '_', '|', ' ']);
    if line.is_empty() || line.len() > LONGEST_ADDED {
        return false;
    }
    let lower = line.to_lowercase();
    if begins_with_any(&lower, ADDED) || (line.ends_with("gesendet") && lower.starts_with("von ")) {
        return true;
    }
    let words = || line.split_whitespace().count();
    let perhaps = begins_with_any(&lower, PERHAPS_ADDED) && words() <= 6;
    let last = lower.ends_with(" from mobile") && words() <= 4;
    (perhaps || last) && stands_alone(lines, at)
}

/// Whether empty lines, or none, stand around a line, and no other text behind it that is not quoted.
fn stands_alone(lines: &[&str], at: usize) -> bool {
    let before = at.checked_sub(1).is_none_or(|before| plain(lines[before]).is_empty());
    let behind = lines.get(at + 1).is_none_or(|behind| plain(behind).is_empty());
    let next = lines[at + 1..].iter().take(20).map(|line| plain(line)).find(|line| !line.is_empty());
    let introduces =
        |line: &str| line.starts_with(['>', '-', '_']) || line.ends_with([':', '：']) || line.contains(':');
    before && behind && next.is_none_or(introduces)
}

fn starts_with(line: &str, start: &str) -> bool {
    let mut head = line.chars().flat_map(char::to_lowercase);
    start.chars().all(|c| head.next() == Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_lines_are_told_from_sentences() {
        let table = [
            ("Sent from my telephone", true),
            ("(Sent from my iPhone)", true),
            ("<<sent by galaxy>>", true),
            ("Get Outlook for iOS<https://aka.example/x>", true),
            ("Von meinem iPad gesendet", true),
            ("Envoyé de mon iPhone", true),
            ("Отправлено с iPhone", true),
            ("Ann from mobile", true),
            ("From My Iphone 6", true),
            ("Sent via UPS yesterday, please look for the number 123", false),
            ("We sent from mobile yesterday", false),
            ("From my point of view it is not working at all", false),
        ];
        for (line, want) in table {
            assert_eq!(is_added(&["Hello", "", line], 2), want, "{line}");
        }
        assert!(!is_added(&["Sent via UPS", "yesterday"], 0));
        assert!(!is_added(&["Sent via UPS", "", "Please look for it"], 0));
        assert!(begins(&["_".repeat(40).as_str(), "Users mailing list"], 0));
    }
}
