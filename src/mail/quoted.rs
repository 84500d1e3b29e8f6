//! What is new in a text: the text without quotes, attribution lines and signature.
//!
//! It keeps rather than cuts: answers between quoted lines stay, a mail that is nothing but a quote stays whole, and so
//! does what was handed on.

use super::attribution::{self, begins_with_any, plain};
use super::quote_heads::{self, Divider};
use super::signature;

/// Where HTML says that a quoted mail begins, a line of this alone stands in its text: a character of private use, which
/// no text of people has.
pub const QUOTE_BEGINS: char = '\u{f8d1}';

/// The same as a text.
pub const MARK: &str = "\u{f8d1}";

/// Whether a line is such a mark, itself quoted or not.
pub fn is_mark(line: &str) -> bool {
    line.trim().trim_matches(['>', ' ']) == MARK
}

/// How subjects begin of mail that is handed on, in lower case.
const FORWARDS: &[&str] = &[
    "fw:",
    "fwd:",
    "wg:",
    "tr:",
    "rv:",
    "enc:",
    "vl:",
    "vb:",
    "doorst:",
    "i:",
    "pd:",
    "továbbítás:",
    "пересл:",
    "转发:",
    "轉寄:",
    "转发：",
    "転送:",
];

/// How many lines are looked at; what stands beyond is taken as it is.
const JUDGED_LINES: usize = 20_000;

/// What a line is to its reader.
enum Line<'t> {
    /// This much of it is new: all, or what stands before an attribution.
    Text(&'t str),
    /// So many lines that nobody wrote now.
    Old(usize),
    /// Nothing new comes from here on.
    End,
    /// A mail that is handed on begins, which belongs to what is said.
    Forwarded,
}

/// What was kept of a text.
#[derive(Default)]
struct Kept<'t> {
    lines: Vec<&'t str>,
    /// Whether there is more than empty lines and rules.
    begun: bool,
}

impl<'t> Kept<'t> {
    fn push(&mut self, line: &'t str) {
        self.begun = self.begun || !is_rule(line);
        self.lines.push(line);
    }
}

/// The text without quotes and signature. The whole text when nothing would be left, or when the subject says that it
/// is handed on.
pub fn new_text(text: &str, subject: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if begins_with_any(&subject.trim_start().to_lowercase(), FORWARDS) {
        return trimmed(&lines);
    }
    let mut kept = Kept::default();
    let mut at = 0;
    while at < lines.len().min(JUDGED_LINES) {
        match judge(&lines, at, kept.begun) {
            Line::Text(text) => {
                kept.push(text);
                at += 1;
            }
            Line::Old(length) => at += length,
            Line::End => at = lines.len(),
            Line::Forwarded => break,
        }
    }
    lines[at.min(lines.len())..].iter().for_each(|line| kept.push(line));
    let new = trimmed(&kept.lines);
    if new.is_empty() { trimmed(&lines) } else { new }
}

fn judge<'t>(lines: &[&'t str], at: usize, begun: bool) -> Line<'t> {
    let line = plain(lines[at]);
    if line.is_empty() {
        return Line::Text(lines[at]);
    }
    if signature::begins(lines, at) {
        return Line::End;
    }
    let divider = quote_heads::divider(line);
    if line.starts_with(QUOTE_BEGINS) || divider.is_some() || quote_heads::head_begins(&lines[at..]) {
        let forwarded = !begun || divider == Some(Divider::Forwarded);
        return if forwarded { Line::Forwarded } else { Line::End };
    }
    if let Some(before) = attribution::text_before(lines[at]) {
        return Line::Text(before);
    }
    if let Some(found) = attribution::at(&lines[at..]) {
        let rest = &lines[at + found.lines..];
        if quote_follows(rest) {
            return Line::Old(found.lines + barred(rest));
        }
        if found.sure {
            return if begun { Line::End } else { Line::Old(found.lines) };
        }
    }
    let old = is_quoted(line) || is_rest_of_quote(lines, at) || is_initialled(lines, at);
    if old || signature::is_added(lines, at) { Line::Old(1) } else { Line::Text(lines[at]) }
}

/// Whether a line is marked as quoted. Arrows around something are decoration.
fn is_quoted(line: &str) -> bool {
    line.starts_with(['>', '＞']) && !line.ends_with("<<")
}

/// A quoted line that was too long goes on in the next, without its mark: a link does, or what stands in brackets.
fn is_rest_of_quote(lines: &[&str], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|before| plain(lines[before])) else { return false };
    let quoted_behind = lines.get(at + 1).is_some_and(|behind| is_quoted(plain(behind)));
    if !is_quoted(before) || !quoted_behind {
        return false;
    }
    let open =
        before.matches(['(', '<', '[']).count() > before.trim_start_matches('>').matches([')', '>', ']']).count();
    let line = plain(lines[at]);
    let link = line.contains("://") && line.split_whitespace().count() <= 2;
    link || (open && !line.contains(' '))
}

/// Lines quoted with the initials of who wrote them, several in a row: "AE> How are you?".
fn is_initialled(lines: &[&str], at: usize) -> bool {
    let initials = |line: &str| {
        let (head, _) = plain(line).split_once('>')?;
        let fits = (1..=3).contains(&head.len()) && head.bytes().all(|byte| byte.is_ascii_uppercase());
        fits.then(|| head.to_owned())
    };
    let own = initials(lines[at]);
    let near = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|near| lines.get(near));
    own.is_some() && near.into_iter().any(|line| initials(line) == own)
}

/// Whether the next line with something on it is quoted, or there is none.
fn quote_follows(lines: &[&str]) -> bool {
    let next = lines.iter().take(1000).map(|line| plain(line)).find(|line| !line.is_empty());
    next.is_none_or(|line| is_quoted(line) || line.starts_with('|'))
}

/// How many lines follow that are quoted with bars: those count only right behind an attribution.
fn barred(lines: &[&str]) -> usize {
    let empty = lines.iter().take_while(|line| plain(line).is_empty()).count();
    let bars = lines[empty..].iter().take_while(|line| plain(line).starts_with('|')).count();
    if bars > 0 { empty + bars } else { 0 }
}

/// Whether nothing but a rule, or nothing at all, stands on a line.
fn is_rule(line: &str) -> bool {
    plain(line)
        .chars()
        .all(|c| matches!(c, '-' | '_' | '*' | '=' | '~' | '#' | '+' | '—' | '–' | 'ᐧ' | QUOTE_BEGINS | ' '))
}

/// Joins what was kept: without rules and empty lines at its end, and with one empty line where quotes were.
fn trimmed(kept: &[&str]) -> String {
    let end = kept.iter().rposition(|line| !is_rule(line)).map_or(0, |last| last + 1);
    let mut out = String::new();
    let mut empty = true;
    for line in kept[..end].iter().filter(|line| !is_mark(line)) {
        let is_empty = line.trim().is_empty();
        if !(is_empty && empty) {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        empty = is_empty;
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::new_text;

    #[test]
    fn quotes_go_and_answers_stay() {
        let table = [
            ("Thanks!\n\nOn Mon, 2 Nov 2026, Help <help@shop.example> wrote:\n> How are you?\n", "Thanks!"),
            ("Danke!\n\nAm 02.11.26 um 10:00 schrieb Hilfe:\n> Wie geht es?\n> Gut?\n\nBis bald", "Danke!\n\nBis bald"),
            ("Merci\n\nLe lun. 2 nov. 2026 à 10:00, Aide\n<aide@shop.example> a écrit :\n\n> Bonjour", "Merci"),
            ("Gracias\n\nEl lun, 2 nov 2026 a las 10:00, Ayuda (<a@b.example>)\nescribió:\n\n> Hola", "Gracias"),
            ("Dank\n\nOp ma 2 nov 2026 om 10:00 schreef Hulp <h@b.example>:\nHallo", "Dank"),
            ("Grazie\n\nIl giorno lun 2 nov 2026 Aiuto <a@b.example> ha scritto:\n> Ciao", "Grazie"),
            ("Obrigado\n\nEm seg., 2 de nov. de 2026, Ajuda <a@b.example> escreveu:\n> Oi", "Obrigado"),
            ("Dzięki\n\nW dniu 2.11.2026 o 10:00, Pomoc pisze:\n> Cześć", "Dzięki"),
            ("Tack\n\nDen 2 nov 2026 skrev Hjälp <h@b.example>:\n> Hej", "Tack"),
            ("Спасибо\n\nВ пн, 2 нояб. 2026 г. в 10:00, Помощь <p@b.example> написал:\n> Привет", "Спасибо"),
            ("谢谢\n\n在 2026年11月2日，帮助 <b@b.example> 写道：\n> 你好", "谢谢"),
            ("> Shall we?\nYes.\n\n> When?\nMonday.", "Yes.\n\nMonday."),
            ("Fine.\n\n-----Original Message-----\nFrom: Help\nText", "Fine."),
            ("Gut.\n\nVon: Hilfe <h@b.example>\nGesendet: Montag\nAn: Ich\nBetreff: Ja\n\nText", "Gut."),
            ("Ok\n________________________________\n*From:* H <h@b.example>\n*Sent:* Monday\n*To:* Me\n\nText", "Ok"),
            ("Hello\n\n-- \nAnn\nShop", "Hello"),
            ("Hello\n--\u{a0}\nAnn", "Hello"),
            ("Hello\n\n________________________________________\nUsers mailing list\nUsers@b.example", "Hello"),
            ("Yes--- On Wed, 4 Nov 2026 at 3:59 PM, a@b.example wrote:\n> Hi", "Yes"),
            ("Ok\n\n2026-11-02 11:28 GMT+03:00 Help <\nh@b.example>:\n\n> First\n", "Ok"),
            ("Ok\n\n2026/11/2 Help <h@b.example>\n\n| First\n| second\n", "Ok"),
            ("Ok\n\n-------On 11/02/2026 17:32 PM, Ann Example wrote-----\n\nSecond", "Ok"),
            ("Ok\n\nOn Mon, 2 Nov 2026, Ann wrote:\n> see (http://b.example/action\n_n=3dd518)\n>\n", "Ok"),
            (
                "Ok\n\nDate: Thu, 26 Nov 2026 13:53:45 +0400\nSubject: x\nFrom: a@b.example\nTo: c@b.example\n\nText",
                "Ok",
            ),
            ("On 8 May 2026 17:34, \"Ann\" <a@b.example> wrote:\n\nThat is it", "That is it"),
            ("Ok\n\nAE> How are you?\nAE> Fine?\n", "Ok"),
            (">>> Now: half price <<<\nCome in", ">>> Now: half price <<<\nCome in"),
            (
                "See below\n\n---------- Forwarded message ---------\nFrom: A <a@b.example>\nDate: 2 Nov 2026\nSubject: x\n\nText",
                "See below\n\n---------- Forwarded message ---------\nFrom: A <a@b.example>\nDate: 2 Nov 2026\nSubject: x\n\nText",
            ),
            (
                "---------- Forwarded message ---------\nFrom: A <a@b.example>\nDate: 2 Nov 2026\nSubject: x\n\nText",
                "---------- Forwarded message ---------\nFrom: A <a@b.example>\nDate: 2 Nov 2026\nSubject: x\n\nText",
            ),
            ("Hello\n\nSent from my telephone", "Hello"),
            ("On the whole it works: see below", "On the whole it works: see below"),
            ("From: is a word\nthat I use", "From: is a word\nthat I use"),
            ("> only a quote", "> only a quote"),
            (
                "From: A <a@b>\nSent: Monday\nTo: C\n\nForwarded text",
                "From: A <a@b>\nSent: Monday\nTo: C\n\nForwarded text",
            ),
            ("", ""),
        ];
        for (text, want) in table {
            assert_eq!(new_text(text, "Re: help"), want, "{text:?}");
        }
    }

    #[test]
    fn what_a_subject_hands_on_stays() {
        let text = "See below\n\nFrom: A <a@b.example>\nSent: Monday\nTo: C\n\nText";
        assert_eq!(new_text(text, "FW: order"), text);
        assert_eq!(new_text(text, "RE: FW: order"), "See below");
    }

    #[test]
    fn hostile_texts_take_linear_time() {
        let rows = ["\n", "From: x\n", "2 On\n", "> \nx\n", "On 2026 wrote:\n\n", "--\n", "AE>\nx\n", "____\n"];
        for row in rows {
            assert!(new_text(&row.repeat(200_000), "").len() <= 200_000 * row.len(), "{row:?}");
        }
        new_text(&"x".repeat(10 << 20), "");
    }
}
