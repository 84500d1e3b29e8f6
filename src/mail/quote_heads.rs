//! What stands above a mail that is quoted without marks: a divider such as "-----Original Message-----", or the head of
//! that mail in a few lines. Knows nothing of what a text does with them.

use super::attribution::plain;

/// How many lines of a head are looked at.
const HEAD_LINES: usize = 12;

/// What stands between dashes above the mail that is answered, in lower case.
const ORIGINAL: &[&str] = &[
    "original message",
    "original mail",
    "original email",
    "original appointment",
    "reply message",
    "reply separator",
    "ursprüngliche nachricht",
    "ursprüngliche e-mail",
    "originalnachricht",
    "antwort nachricht",
    "message d'origine",
    "message d’origine",
    "message original",
    "message initial",
    "mensaje original",
    "mensagem original",
    "missatge original",
    "oorspronkelijk bericht",
    "oorspronkelijke bericht",
    "messaggio originale",
    "wiadomość oryginalna",
    "oryginalna wiadomość",
    "ursprungligt meddelande",
    "originalmeddelande",
    "oprindelig meddelelse",
    "opprinnelig melding",
    "alkuperäinen viesti",
    "původní zpráva",
    "původní e-mail",
    "pôvodná správa",
    "eredeti üzenet",
    "mesaj original",
    "mesajul original",
    "orijinal ileti",
    "orijinal mesaj",
    "αρχικό μήνυμα",
    "исходное сообщение",
    "оригинальное сообщение",
    "оригінальне повідомлення",
    "izvorna poruka",
    "originalna poruka",
    "izvirno sporočilo",
    "הודעה מקורית",
    "الرسالة الأصلية",
    "pesan asli",
    "thư gốc",
    "原始邮件",
    "原始郵件",
    "原始信件",
    "元のメッセージ",
    "원본 메시지",
    "원본 메일",
];

/// The same above a mail that is handed on.
const FORWARDED: &[&str] = &[
    "forwarded message",
    "begin forwarded message",
    "forwarded by",
    "forwarded email",
    "weitergeleitete nachricht",
    "anfang der weitergeleiteten nachricht",
    "anfang der weitergeleiteten e-mail",
    "message transféré",
    "début du message transféré",
    "début du message réexpédié",
    "mensaje reenviado",
    "inicio del mensaje reenviado",
    "mensagem encaminhada",
    "início da mensagem encaminhada",
    "início da mensagem reenviada",
    "messaggio inoltrato",
    "inizio messaggio inoltrato",
    "doorgestuurd bericht",
    "begin doorgestuurd bericht",
    "vidarebefordrat meddelande",
    "vidarebefordrat brev",
    "videresendt meddelelse",
    "videresendt melding",
    "videresendt besked",
    "välitetty viesti",
    "przekazana wiadomość",
    "wiadomość przekazana dalej",
    "przeposlaná zpráva",
    "preposlaná správa",
    "továbbított üzenet",
    "mesaj redirecționat",
    "iletilen mesaj",
    "yönlendirilen ileti",
    "προωθημένο μήνυμα",
    "пересылаемое сообщение",
    "пересланное сообщение",
    "переслане повідомлення",
    "proslijeđena poruka",
    "הודעה שהועברה",
    "转发邮件",
    "转发的邮件",
    "轉寄郵件",
    "轉寄的郵件",
    "転送メッセージ",
    "転送されたメッセージ",
    "전달된 메일",
    "전달된 메시지",
];

/// The names of fields, in lower case, with what they say.
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
    "від",
    "де",
    "de la",
    "feladó",
    "kimden",
    "από",
    "šalje",
    "pošiljatelj",
    "lähettäjä",
    "saatja",
    "expéditeur",
    "remitente",
    "remetente",
    "mittente",
    "dari",
    "từ",
    "จาก",
    "מאת",
    "من",
    "发件人",
    "寄件者",
    "寄件人",
    "差出人",
    "送信者",
    "보낸 사람",
    "보낸사람",
    "발신",
];
const DATE: &[&str] = &[
    "sent",
    "date",
    "gesendet",
    "datum",
    "envoyé",
    "le",
    "enviado",
    "enviada",
    "enviado el",
    "enviado em",
    "enviada em",
    "fecha",
    "inviato",
    "data",
    "verzonden",
    "skickat",
    "sendt",
    "wysłano",
    "odesláno",
    "odoslané",
    "küldve",
    "dátum",
    "gönderilme tarihi",
    "gönderildi",
    "tarih",
    "trimis",
    "εστάλη",
    "ημερομηνία",
    "отправлено",
    "дата",
    "надіслано",
    "poslano",
    "saadetud",
    "lähetetty",
    "dato",
    "päivämäärä",
    "enviat",
    "dikirim",
    "tanggal",
    "ngày",
    "đã gửi",
    "วันที่",
    "ส่งเมื่อ",
    "נשלח",
    "תאריך",
    "تاريخ الإرسال",
    "تم الإرسال",
    "التاريخ",
    "发送时间",
    "发送日期",
    "日期",
    "时间",
    "寄件日期",
    "傳送時間",
    "送信日時",
    "日時",
    "보낸 날짜",
    "날짜",
];
const TO: &[&str] = &[
    "to",
    "cc",
    "reply-to",
    "an",
    "kopie",
    "antwort an",
    "à",
    "répondre à",
    "destinataire",
    "para",
    "a",
    "per a",
    "aan",
    "beantwoorden - aan",
    "till",
    "til",
    "do",
    "komu",
    "pre",
    "címzett",
    "kime",
    "către",
    "προς",
    "кому",
    "za",
    "prima",
    "vastaanottaja",
    "adressaat",
    "risposta",
    "destinatario",
    "destinatário",
    "kepada",
    "ke",
    "đến",
    "tới",
    "ถึง",
    "אל",
    "إلى",
    "收件人",
    "收件者",
    "抄送",
    "宛先",
    "받는 사람",
    "받는사람",
    "수신",
];
const SUBJECT: &[&str] = &[
    "subject",
    "betreff",
    "objet",
    "sujet",
    "asunto",
    "oggetto",
    "onderwerp",
    "ämne",
    "emne",
    "temat",
    "assunto",
    "assumpte",
    "předmět",
    "predmet",
    "tárgy",
    "konu",
    "subiect",
    "θέμα",
    "тема",
    "aihe",
    "teema",
    "subjek",
    "perihal",
    "chủ đề",
    "เรื่อง",
    "נושא",
    "الموضوع",
    "主题",
    "主旨",
    "主題",
    "件名",
    "제목",
];

/// How a mail stands below a divider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divider {
    /// It is the one that is answered.
    Answered,
    /// It is handed on, and belongs to what is said.
    Forwarded,
}

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    From,
    Date,
    To,
    Subject,
}

/// The divider that a line is.
pub fn divider(line: &str) -> Option<Divider> {
    let line = plain(line);
    let around = |c: char| matches!(c, '-' | '_' | '=' | '*' | '+' | '#' | '—') || c.is_whitespace();
    let inner = line.trim_matches(around);
    let dashed = ["--", "__", "==", "*-", "—"].iter().any(|start| line.starts_with(start));
    let ends = inner.ends_with([':', '：']);
    if !(dashed || ends) || inner.is_empty() || inner.len() > 80 {
        return None;
    }
    let inner = inner.trim_end_matches([':', '：', ' ', '\u{a0}']).to_lowercase();
    if FORWARDED.iter().any(|words| inner == *words || (dashed && inner.starts_with(words))) && (dashed || ends) {
        return Some(Divider::Forwarded);
    }
    (dashed && ORIGINAL.contains(&inner.as_str())).then_some(Divider::Answered)
}

/// Whether the head of a quoted mail begins with the first line: who, when, and to whom or about what.
///
/// Forms that people fill in have fields as well, so an address or a subject must be among them; and two fields alone
/// must say what only mails say.
pub fn head_begins(lines: &[&str]) -> bool {
    let Some((first, value)) = lines.first().and_then(|line| field(line)) else { return false };
    let mut said = vec![(first, value)];
    let mut between = 0;
    for line in lines.iter().take(HEAD_LINES).skip(1) {
        match field(line) {
            Some(found) => {
                said.push(found);
                between = 0;
            }
            None if plain(line).is_empty() => {}
            // A long value goes on in the next line.
            None if between < 1 => between += 1,
            None => break,
        }
    }
    let has = |kind: Kind| said.iter().any(|(one, _)| *one == kind);
    let value = |kind: Kind| said.iter().find(|(one, _)| *one == kind).map_or("", |(_, value)| value);
    let kinds = [Kind::From, Kind::Date, Kind::To, Kind::Subject].into_iter().filter(|kind| has(*kind)).count();
    let addressed = said.iter().any(|(_, value)| value.contains('@'));
    let timed = has_time(value(Kind::Date));
    let begins = matches!(first, Kind::From | Kind::Date) || (has(Kind::From) && has(Kind::Date));
    let many = kinds >= 3 && (has(Kind::Subject) || addressed);
    let two = kinds == 2 && timed && addressed && !has(Kind::Subject);
    begins && (many || two)
}

fn field(line: &str) -> Option<(Kind, &str)> {
    let line = plain(line).trim_start_matches(['*', '|', ' ']);
    let (name, value) = line.split_once([':', '：'])?;
    if name.len() > 60 {
        return None;
    }
    let name = name.trim_matches(|c: char| c == '*' || c.is_whitespace()).to_lowercase();
    let name = name.as_str();
    let kinds = [(FROM, Kind::From), (DATE, Kind::Date), (TO, Kind::To), (SUBJECT, Kind::Subject)];
    let (_, kind) = kinds.into_iter().find(|(names, _)| names.contains(&name))?;
    Some((kind, value.trim_matches(|c: char| c == '*' || c.is_whitespace())))
}

/// Whether a time of day stands in it: "10:00".
fn has_time(value: &str) -> bool {
    let mut numbers = value.split(|c: char| !(c.is_ascii_digit() || c == ':'));
    numbers.any(|word| word.len() >= 4 && word.contains(':') && !word.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dividers_say_whether_a_mail_is_answered_or_handed_on() {
        use Divider::{Answered, Forwarded};
        let table = [
            ("-----Original Message-----", Some(Answered)),
            ("*----- Original Message -----*", Some(Answered)),
            ("---- Reply message ----", Some(Answered)),
            ("-------- Ursprüngliche Nachricht --------", Some(Answered)),
            ("-----Message d'origine-----", Some(Answered)),
            ("------------------ 原始邮件 ------------------", Some(Answered)),
            ("---------- Forwarded message ---------", Some(Forwarded)),
            ("Begin forwarded message:", Some(Forwarded)),
            ("-------- Weitergeleitete Nachricht --------", Some(Forwarded)),
            ("---------------------- Forwarded by Ann Example on 02/11/2026 ----------", Some(Forwarded)),
            ("Original message", None),
            ("I forwarded message: see below", None),
            ("-----", None),
            ("--", None),
        ];
        for (line, want) in table {
            assert_eq!(divider(line), want, "{line}");
        }
    }

    #[test]
    fn heads_are_told_from_forms() {
        let table = [
            ("From: Help\nSent: Monday\nTo: Me\nSubject: Re: x", true),
            ("*From:* Help <h@b.example>\n*Sent:* Monday\n*To:* Me", true),
            ("Date: Thu, 26 Nov 2026 13:53:45 +0400\nSubject: x\nFrom: a@b.example\nTo: c@b.example", true),
            ("From: a@b.example\nDate: Wed, 16 Nov 2026 00:15:02 -0600", true),
            ("Date: Wed, 16 Nov 2026 00:15:02 -0600\nTo: a@b.example", true),
            ("Von: Hilfe <h@b.example>\n\nGesendet: Montag\n\nAn: Ich\n\nBetreff: Ja", true),
            ("差出人: A <a@b.example>\n送信日時: 2026年11月2日\n宛先: B\n件名: C", true),
            ("보낸 사람: A <a@b.example>\n보낸 날짜: 2026년\n받는 사람: B\n제목: C", true),
            ("From: Help\nSent: Monday\nTo: A <a@b.example>,\n B <b@b.example>\nSubject: Re: x", true),
            ("From: Berlin\nTo: Hamburg\nDate: 5 May", false),
            ("Date: 5 May\nTo: the manager", false),
            ("From: is a word\nthat I use", false),
            ("Subject: invoice\nDate: 5 May", false),
        ];
        for (text, want) in table {
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(head_begins(&lines), want, "{text}");
        }
    }
}
