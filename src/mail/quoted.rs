//! What is new in a text: the text without quotes, attribution lines and signature.
//!
//! A first version that keeps rather than cuts: answers between quoted lines stay, a mail that is nothing but a quote
//! stays whole, and so does what was forwarded without a word.

/// Verbs that end an attribution line, in lower case.
const WROTE: &[&str] = &[
    "wrote",
    "writes",
    "schrieb",
    "geschrieben",
    "a écrit",
    "a ecrit",
    "escribió",
    "escribio",
    "schreef",
    "ha scritto",
    "scrive",
    "napisał",
    "napisała",
    "pisze",
    "escreveu",
    "skrev",
    "kirjoitti",
    "писал",
    "написал",
    "пишет",
    "napsal",
    "写道",
    "寫道",
    "のメール",
    "wrote on",
];

/// Words that begin an attribution that may run over several lines.
const BEGINS: &[&str] = &[
    "on ", "am ", "le ", "el ", "op ", "il ", "em ", "den ", "w dniu ", "dnia ", "på ", "dne ", "в ", "在 ", "在",
    "a ", "de : ", "quoting ",
];

/// What stands between dashes above a quoted mail, in lower case.
const ORIGINAL: &[&str] = &[
    "original message",
    "original appointment",
    "ursprüngliche nachricht",
    "originalnachricht",
    "message d'origine",
    "message original",
    "mensaje original",
    "oorspronkelijk bericht",
    "messaggio originale",
    "wiadomość oryginalna",
    "oryginalna wiadomość",
    "mensagem original",
    "ursprungligt meddelande",
    "originalmeddelande",
    "oprindelig meddelelse",
    "исходное сообщение",
    "原始邮件",
    "原始郵件",
    "元のメッセージ",
    "original mail",
];

/// Field names of a header block above a quoted mail, in lower case: who, when, and to whom or about what.
const FROM: &[&str] = &[
    "from",
    "von",
    "de",
    "da",
    "van",
    "från",
    "fra",
    "od",
    "от",
    "发件人",
    "寄件者",
    "差出人",
    "lähettäjä",
    "expéditeur",
];
const SENT: &[&str] = &[
    "sent",
    "date",
    "gesendet",
    "datum",
    "envoyé",
    "enviado",
    "enviada",
    "enviado el",
    "enviado em",
    "fecha",
    "inviato",
    "data",
    "verzonden",
    "skickat",
    "sendt",
    "wysłano",
    "отправлено",
    "дата",
    "发送时间",
    "发送日期",
    "日期",
    "送信日時",
    "日時",
    "lähetetty",
    "dato",
];
const TO: &[&str] = &[
    "to",
    "an",
    "à",
    "para",
    "a",
    "aan",
    "till",
    "til",
    "do",
    "кому",
    "收件人",
    "宛先",
    "subject",
    "betreff",
    "objet",
    "asunto",
    "oggetto",
    "onderwerp",
    "ämne",
    "emne",
    "temat",
    "assunto",
    "тема",
    "主题",
    "主旨",
    "件名",
];

/// Lines that mail programs of telephones add, in lower case.
const SENT_FROM: &[&str] = &[
    "sent from my ",
    "sent from mail for",
    "sent from outlook",
    "get outlook for",
    "sent via ",
    "von meinem ",
    "gesendet von ",
    "envoyé de mon ",
    "envoyé depuis ",
    "enviado desde mi ",
    "enviado do meu ",
    "verzonden vanaf mijn ",
    "inviato da ",
    "wysłane z ",
    "skickat från ",
    "sendt fra min ",
    "отправлено с ",
    "发自我的",
    "iphoneから送信",
];

/// The longest attribution, in lines.
const ATTRIBUTION_LINES: usize = 4;

/// The longest signature behind dashes without the space that should follow them, in lines.
const SIGNATURE_LINES: usize = 12;

/// The text without quotes and signature. The whole text when nothing would be left.
pub fn new_text(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut kept: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim();
        let begun = kept.iter().any(|line| !line.trim().is_empty());
        if is_signature(&lines, at) || (begun && (is_original(line) || is_header_block(&lines[at..]))) {
            break;
        }
        if let Some(length) = attribution(&lines[at..]) {
            let rest = &lines[at + length..];
            if !quote_follows(rest) && begun {
                break;
            }
            if quote_follows(rest) {
                at += length;
                continue;
            }
        }
        if !line.starts_with('>') && !is_sent_from(line) {
            kept.push(lines[at]);
        }
        at += 1;
    }
    let new = trimmed(&kept);
    if new.is_empty() { text.trim().to_owned() } else { new }
}

/// Joins what was kept: without rules and empty lines at its end, and with one empty line where quotes were.
fn trimmed(kept: &[&str]) -> String {
    let is_rule = |line: &str| line.trim().chars().all(|c| matches!(c, '-' | '_' | '*' | '=' | '~'));
    let end = kept.iter().rposition(|line| !is_rule(line)).map_or(0, |last| last + 1);
    let mut out = String::new();
    let mut empty = true;
    for line in &kept[..end] {
        let is_empty = line.trim().is_empty();
        if !(is_empty && empty) {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        empty = is_empty;
    }
    out.trim().to_owned()
}

/// "-- " alone on its line begins the signature (RFC 3676 section 4.3); many programs lose the space.
fn is_signature(lines: &[&str], at: usize) -> bool {
    let line = lines[at];
    line.trim_end_matches('\r') == "-- " || (line.trim() == "--" && lines.len() - at <= SIGNATURE_LINES)
}

fn is_original(line: &str) -> bool {
    if !line.starts_with("--") && !line.starts_with("__") {
        return false;
    }
    let inner = line.trim_matches(|c: char| matches!(c, '-' | '_' | ' ')).to_lowercase();
    ORIGINAL.contains(&inner.as_str())
}

/// Whether a header block of a quoted mail begins here: a "From:" line and, close below, a date and a third field.
fn is_header_block(lines: &[&str]) -> bool {
    let named = |line: &str, names: &[&str]| {
        let line = line.trim().trim_start_matches('*');
        line.split_once([':', '：']).is_some_and(|(name, _)| {
            name.len() < 40 && names.contains(&name.trim_matches(['*', ' ', '\u{a0}']).to_lowercase().as_str())
        })
    };
    let block = &lines[..lines.len().min(8)];
    block.first().is_some_and(|line| named(line, FROM))
        && block.iter().skip(1).any(|line| named(line, SENT))
        && block.iter().skip(1).any(|line| named(line, TO))
}

/// How many lines an attribution takes that begins here: "On Monday, Ann <ann@example.org> wrote:".
fn attribution(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?.trim();
    let lower = first.to_lowercase();
    let most = if BEGINS.iter().any(|begin| lower.starts_with(begin)) { ATTRIBUTION_LINES } else { 1 };
    let mut joined = String::new();
    for (count, line) in lines.iter().take(most).enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('>') {
            return None;
        }
        joined.push_str(&line.to_lowercase());
        joined.push(' ');
        if joined.len() > 600 {
            return None;
        }
        let ends = line.ends_with([':', '：']);
        let says = joined.chars().any(|c| c.is_ascii_digit() || c == '@');
        if ends && says && WROTE.iter().any(|verb| joined.contains(verb)) {
            return Some(count + 1);
        }
    }
    None
}

fn quote_follows(lines: &[&str]) -> bool {
    lines.iter().map(|line| line.trim()).find(|line| !line.is_empty()).is_none_or(|line| line.starts_with('>'))
}

fn is_sent_from(line: &str) -> bool {
    line.len() < 80 && SENT_FROM.iter().any(|start| line.to_lowercase().starts_with(start))
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
            assert_eq!(new_text(text), want, "{text:?}");
        }
    }
}
