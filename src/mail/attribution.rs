//! The lines that programs put above a quote: "On Monday, Ann <ann@example.org> wrote:", in the languages that people
//! write in. Knows nothing of what a text does with them.

/// The most lines that an attribution is wrapped into.
const MOST_LINES: usize = 5;

/// The longest attribution, in bytes: a date, a long name, a long address.
const LONGEST: usize = 500;

/// How far behind the verb the colon may stand, in bytes: "schrieb Ann Example <ann@example.org>:".
const BEHIND_VERB: usize = 160;

/// Words that begin an attribution, in lower case.
const BEGINS: &[&str] = &[
    "on ",
    "at ",
    "in message ",
    "quoting ",
    "am ",
    "le ",
    "el ",
    "op ",
    "il ",
    "em ",
    "den ",
    "på ",
    "w dniu ",
    "dnia ",
    "dňa ",
    "dne ",
    "în ",
    "pe ",
    "la data ",
    "a ",
    "de : ",
    "στις ",
    "τη ",
    "в ",
    "на ",
    "у ",
    "от ",
    "dana ",
    "tarihinde ",
    "בתאריך",
    "ב-",
    "في ",
    "vào ",
    "pada ",
    "เมื่อ",
    "kuupäeval ",
    "在 ",
    "在",
    "於 ",
    "于 ",
];

/// Verbs of attributions, in lower case. The letters around one are no letters, but in languages without spaces.
const VERBS: &[&str] = &[
    "wrote",
    "writes",
    "said",
    "says",
    "sent",
    "schrieb",
    "schrieben",
    "geschrieben",
    "schreibt",
    "a écrit",
    "a ecrit",
    "écrit",
    "nous a dit",
    "escribió",
    "escribio",
    "escribe",
    "ha escrit",
    "va escriure",
    "schreef",
    "geschreven",
    "verzond",
    "ha scritto",
    "scrive",
    "escreveu",
    "napisał",
    "napisała",
    "napisał(a)",
    "pisze",
    "skrev",
    "skrifaði",
    "kirjoitti",
    "kirjutas",
    "rašė",
    "rakstīja",
    "napsal",
    "napsal(a)",
    "napsala",
    "napísal",
    "napísal(a)",
    "napísala",
    "piše",
    "je napisao",
    "je napisala",
    "je napisao/la",
    "je napisal",
    "írta",
    "a scris",
    "yazdı",
    "έγραψε",
    "пишет",
    "написал",
    "написал(а)",
    "написала",
    "писал",
    "писал(а)",
    "писала",
    "пише",
    "написав",
    "писав",
    "написа",
    "написао је",
    "је написао",
    "כתב",
    "כתבה",
    "כתב/ה",
    "كتب",
    "كتبت",
    "نوشت",
    "ने लिखा",
    "đã viết",
    "viết",
    "menulis",
];

/// The same for languages that put no space between words.
const VERBS_WITHOUT_SPACES: &[&str] = &[
    "写道",
    "寫道",
    "写到",
    "书写",
    "のメール",
    "のメッセージ",
    "書きました",
    "님이 작성",
    "작성",
    "썼습니다",
    "เขียนว่า",
    "เขียน",
];

/// An attribution that begins a run of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// How many lines it takes.
    pub lines: usize,
    /// Whether it is one whatever follows. Otherwise it is one if a quote follows.
    pub sure: bool,
}

/// The attribution that begins with the first line.
pub fn at(lines: &[&str]) -> Option<Attribution> {
    if plain(lines.first()?).is_empty() {
        return None;
    }
    let mut joined = String::new();
    let mut unsure = None;
    for (count, line) in lines.iter().take(MOST_LINES).enumerate() {
        let line = plain(line);
        if line.is_empty() {
            // Where a link was taken apart, an empty line stands in front of its bracket.
            if lines.get(count + 1).is_some_and(|next| plain(next).starts_with('<')) {
                continue;
            }
            break;
        }
        let open = || joined.matches('<').count() > joined.matches('>').count();
        if joined.len() + line.len() > LONGEST || (line.starts_with('>') && !open()) {
            break;
        }
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(&line.to_lowercase());
        match judge(&joined) {
            Some(sure @ true) => return Some(Attribution { lines: count + 1, sure }),
            Some(sure) => unsure = unsure.or(Some(Attribution { lines: count + 1, sure })),
            None => {}
        }
        if count == 0 && !may_continue(&joined) {
            break;
        }
    }
    unsure
}

/// The part of a line before an attribution that begins on the same line behind dashes, as programs leave it that lose
/// line ends: "Yes.--- On Monday, Ann <ann@example.org> wrote:".
pub fn text_before(line: &str) -> Option<&str> {
    let (before, _) = line.split_once("--")?;
    let rest = line[before.len()..].trim_start_matches('-');
    if plain(before).is_empty() {
        return None;
    }
    let named = begins_with_any(&plain(rest).to_lowercase(), BEGINS);
    (named && at(&[rest]).is_some_and(|found| found.sure)).then_some(before)
}

/// A line without what nobody sees: space around it, marks of the direction of writing, spaces of no width.
pub fn plain(line: &str) -> &str {
    let unseen = |c: char| {
        c.is_whitespace()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    line.trim_matches(unseen)
}

/// Whether a text begins with one of these. Their first bytes tell nearly all of them apart from it.
pub fn begins_with_any(text: &str, starts: &[&str]) -> bool {
    let first = text.as_bytes().first();
    starts.iter().any(|start| start.as_bytes().first() == first && text.starts_with(start))
}

/// Whether a line may begin an attribution that goes on in the next: it begins like one, and no sentence ends there.
fn may_continue(first: &str) -> bool {
    let ends_sentence = first.ends_with(['!', '?']);
    let bare = first.trim_start_matches(['-', '*', '_', ' ']);
    !ends_sentence && (begins_with_any(bare, BEGINS) || begins_with_date(bare))
}

/// Whether the joined lines, in lower case, are an attribution, and a sure one.
fn judge(text: &str) -> Option<bool> {
    let around = |c: char| matches!(c, '-' | '*' | '_' | ' ' | '—');
    let body = text.trim_matches(around);
    let dashed = text.starts_with("--") && text.ends_with("--");
    let inner = body.strip_suffix([':', '：']).map(|inner| inner.trim_end_matches(around));
    let closed = dashed || inner.is_some();
    let body = inner.unwrap_or(body);
    // Nearly every line of a text ends here or below, before the long list of verbs is looked for in it.
    if !closed && !body.bytes().any(|byte| byte.is_ascii_digit() || byte == b'@') {
        return None;
    }
    let begins = begins_with_any(body, BEGINS) || begins_with_date(body);
    if !closed && !begins {
        return None;
    }
    let said = is_dated(body) || body.contains('@');
    if !closed && !said {
        return None;
    }
    if let Some(tail) = behind_verb(body) {
        // A person who tells a story says "I".
        let story = body.ends_with(" i wrote") || body.ends_with(" i said") || body.ends_with(" i sent");
        return match (closed, tail) {
            (true, _) => Some(!story && (said && (begins || ends_name_and_address(body)) || body.contains(" via "))),
            (false, "") if said && begins => Some(false),
            _ => None,
        };
    }
    let address = body.ends_with('>') && body.rsplit('<').next().is_some_and(|last| last.contains('@'));
    if address && begins && is_dated(body) {
        return Some(closed || body.starts_with(|c: char| c.is_ascii_digit()));
    }
    // What an old Gmail writes for somebody without an address.
    let short = body.split_whitespace().count() <= 8 && !body.contains('<');
    (short && is_iso_time(body)).then_some(true)
}

/// What stands behind the verb.
fn behind_verb(body: &str) -> Option<&str> {
    // Nearly every verb has a byte that the body has not, which is found out faster than that the verb is not there.
    let mut has = [false; 256];
    body.bytes().for_each(|byte| has[usize::from(byte)] = true);
    let may_hold = |verb: &&&str| verb.bytes().all(|byte| has[usize::from(byte)]);
    let spaced = VERBS.iter().filter(may_hold).filter_map(|verb| {
        let at = body.rfind(verb)?;
        let (before, behind) = (&body[..at], &body[at + verb.len()..]);
        let alone = !before.ends_with(char::is_alphabetic) && !behind.starts_with(char::is_alphabetic);
        alone.then_some(behind)
    });
    let dense = VERBS_WITHOUT_SPACES.iter().filter(may_hold);
    let dense = dense.filter_map(|verb| body.rfind(verb).map(|at| &body[at + verb.len()..]));
    spaced.chain(dense).filter(|behind| behind.len() <= BEHIND_VERB).min_by_key(|behind| behind.len())
}

/// "Ann Example <ann@example.org> wrote": a few words, an address, a verb.
fn ends_name_and_address(body: &str) -> bool {
    body.contains('@') && body.split_whitespace().take_while(|word| !word.contains('@')).count() <= 6
}

/// Whether it begins with a number, or with one word and a number: "2 nov.", "Mon, 2 Nov".
fn begins_with_date(body: &str) -> bool {
    let mut words = body.split_whitespace();
    let has_digit = |word: Option<&str>| word.is_some_and(|word| word.contains(|c: char| c.is_ascii_digit()));
    let first = words.next();
    let weekday = first.is_some_and(|word| {
        let length = word.chars().count();
        length <= 3 || (length <= 14 && word.ends_with([',', '.', '，']))
    });
    first.is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit())) || (weekday && has_digit(words.next()))
}

/// Whether a year, a time or a date in numbers stands in it.
fn is_dated(body: &str) -> bool {
    let numbers = body.split(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '/' | '.' | '-')));
    // What is shorter than "1.1" is none, and nearly all of a text is.
    let numbers = numbers.filter(|word| word.len() >= 3).map(|word| word.trim_matches([':', '/', '.', '-']));
    numbers.filter(|word| !word.is_empty()).any(|word| {
        let year = word.len() == 4 && (word.starts_with("20") || word.starts_with("19"));
        let divides = |c: char| matches!(c, ':' | '/' | '.' | '-');
        let pieces = word.contains(divides) && word.split(divides).all(|piece| (1..=4).contains(&piece.len()));
        year || pieces
    })
}

/// "2026-11-02 17:21 gmt+01:00 …".
fn is_iso_time(body: &str) -> bool {
    let mut words = body.split_whitespace();
    let date = words.next().is_some_and(|word| word.len() == 10 && is_dated(word));
    date && words.next().is_some_and(|word| word.contains(':'))
        && words.next().is_some_and(|word| word.starts_with("gmt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributions_of_many_languages_are_known() {
        let sure = [
            "On Mon, 2 Nov 2026 at 10:00, Help <help@shop.example> wrote:",
            "On 11-Nov-2026, at 6:54 PM, Ann <ann@b.example> sent:",
            "---- On Tue, 02 Nov 2026 14:17:36 +0530 Ann<ann@b.example> wrote ----",
            "------On 12/29/2026 17:32 PM, Ann Example wrote-----",
            "At 6/16/2026 08:32 PM, you wrote:",
            "In message <1@b.example> Ann Example writes:",
            "Ann Example <ann@b.example> wrote:",
            "ann via Forum wrote:",
            "Am 02.11.26 um 10:00 schrieb Hilfe:",
            "Ann Example <ann@b.example> schrieb am Mo., 2. Nov. 2026 um 11:53 Uhr:",
            "Am 2. November 2026 10:00:00 MEZ schrieb Ann <ann@b.example>:",
            "Le 2 nov. 2026 à 10:00, Aide <a@b.example> a écrit :",
            "El lun, 2 nov 2026 a las 10:00, Ayuda (<a@b.example>) escribió:",
            "Op 2 nov. 2026 om 16:48 heeft Hulp <h@b.example> het volgende geschreven:",
            "Op ma 2 nov 2026 om 10:00 schreef Hulp <h@b.example>:",
            "Il giorno lun 2 nov 2026 alle ore 10:00 Aiuto <a@b.example> ha scritto:",
            "Em seg., 2 de nov. de 2026 às 10:00, Ajuda <a@b.example> escreveu:",
            "W dniu 2.11.2026 o 10:00, Pomoc pisze:",
            "pon., 2 lis 2026 o 10:00 Pomoc <p@b.example> napisał(a):",
            "Den mån 2 nov. 2026 kl 10:00 skrev Hjälp <h@b.example>:",
            "man. 2. nov. 2026 kl. 10.00 skrev Hjelp <h@b.example>:",
            "ma 2. marrask. 2026 klo 10.00 Apu <a@b.example> kirjoitti:",
            "po 2. 11. 2026 v 10:00 odesílatel Pomoc <p@b.example> napsal:",
            "Pomoc <p@b.example> ezt írta (időpont: 2026. nov. 2., H, 10:00):",
            "În lun., 2 nov. 2026 la 10:00, Ajutor <a@b.example> a scris:",
            "Yardım <y@b.example>, 2 Kas 2026 Pzt, 10:00 tarihinde şunu yazdı:",
            "Στις Δευ 2 Νοε 2026 στις 10:00 μ.μ., ο Βοήθεια <v@b.example> έγραψε:",
            "пн, 2 нояб. 2026 г. в 10:00, Помощь <p@b.example>:",
            "понедельник, 2 ноября 2026 г. пользователь Помощь написал:",
            "30 серп. 2026 р. 20:45 \"Допомога\" <d@b.example> пише:",
            "02.11.2026, 14:41, \"Help\" <h@b.example>:",
            "2026-11-02 11:28 GMT+03:00 Help <h@b.example>:",
            "2026-11-02 17:21 GMT+01:00 Some One",
            "2026/11/2 help via Forum <h@b.example>",
            "Thu, 26 Nov 2026 14:00:51 +0400 Ann <a@b.example>:",
            "在 2026年11月2日，10:00，帮助 <b@b.example> 写道：",
            "帮助 <b@b.example> 于2026年11月2日周一 10:00写道：",
            "2026年11月2日(月) 10:00 ヘルプ <h@b.example>:",
            "2026/11/02 10:00、Help <h@b.example>のメール:",
            "2026년 11월 2일 (월) 오전 10:00, 도움 <d@b.example>님이 작성:",
            "\u{202b}בתאריך יום ב׳, 2 בנוב׳ 2026 ב-10:00 מאת עזרה <e@b.example>:\u{202c}",
            "Vào Th 2, 2 thg 11, 2026 vào lúc 10:00 Ann <a@b.example> đã viết:",
        ];
        for line in sure {
            let want = Attribution { lines: 1, sure: true };
            assert_eq!(at(&[line]), Some(want), "{line}");
        }
    }

    #[test]
    fn sentences_are_no_attributions() {
        let table = [
            ("On the whole it works: see below", None),
            ("On 3 May 2026 I wrote:", Some(false)),
            ("My boss wrote:", Some(false)),
            ("Please read what Ann wrote: it is on page 12", None),
            ("Order 4711 of 2 Nov 2026:", None),
            ("2 weeks ago:", None),
            ("See you at 10:00:", None),
        ];
        for (line, want) in table {
            assert_eq!(at(&[line]).map(|found| found.sure), want, "{line}");
        }
    }

    #[test]
    fn attributions_are_wrapped_and_glued() {
        let table: &[(&[&str], Option<usize>)] = &[
            (&["On Mon, 2 Nov 2026 at 10:00,", "Ann Example <ann@b.example>", "wrote:"], Some(3)),
            (&["Am 02.11.2026 17:48 schrieb \"Ann\" <ann@b.example", ">:"], Some(2)),
            (&["2026-11-02 15:36 GMT+02:00 Ann <", "ann@b.example>:"], Some(2)),
            (&["20 нояб. 2026 г. 19:37 пользователь \"Ann\" <", "ann@b.example> написал:"], Some(2)),
            (&["On Thu, 2 Nov 2026 at 11:16 Ann", "", "<", "mailto:Ann <ann@b.example>", "> wrote:"], Some(5)),
            (&["Le 2 nov. 2026 19:03, \"Ann\"", "<ann@b.example>", "a écrit :"], Some(3)),
            (&["I got it on 2 Nov 2026.", "Ann <ann@b.example> wrote:"], None),
            (&["On Mon, 2 Nov 2026", "> quoted", "wrote:"], None),
        ];
        for (lines, want) in table {
            assert_eq!(at(lines).map(|found| found.lines), *want, "{lines:?}");
        }
        assert_eq!(text_before("Yes--- On Mon, 2 Nov 2026 at 3:59 PM, ann@b.example wrote:"), Some("Yes"));
        assert_eq!(text_before("A -- B: on it"), None);
    }
}
