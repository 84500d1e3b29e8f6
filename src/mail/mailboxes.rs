//! Address lists (RFC 5322 section 3.4), with what section 4.4 calls obsolete and what real programs write besides:
//! names with commas and no quotes, addresses without brackets, semicolons between addresses.

use super::message::Mailbox;
use super::words;

/// How deep comments stand in each other; what is deeper is text.
const MAX_COMMENTS: usize = 20;

/// How many quotes and comments without an end are looked through; further marks of theirs are text.
const MAX_UNENDED: usize = 10;

/// One address as it is gathered.
#[derive(Default)]
struct Item {
    /// Text outside brackets and comments, quotes taken away.
    phrase: String,
    /// Whether some of the phrase was quoted: a quoted name is no address.
    quoted: bool,
    /// What stands in angle brackets.
    angle: Option<String>,
    comment: String,
}

/// Reads the list. `line` is unfolded, each run of encoded words in it is one word.
pub fn parse(line: &str) -> Vec<Mailbox> {
    let mut found: Vec<Mailbox> = Vec::new();
    let mut item = Item::default();
    // What stood before a comma and may be the first half of a name.
    let mut half: Option<String> = None;
    let mut unended = 0;
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '"' => quoted(after, &mut item, &mut unended),
            '(' => comment(after, &mut item, &mut unended),
            '<' => angle(after, &mut item, &mut unended),
            ':' if item.begins_group(after) => {
                item = Item::default();
                after
            }
            ',' | ';' => {
                let done = std::mem::take(&mut item);
                half = done.finish(half.take(), &mut found, c == ',');
                after
            }
            c => {
                item.phrase.push(c);
                after
            }
        };
    }
    let half = item.finish(half, &mut found, false);
    found.extend(half.and_then(|name| mailbox(&name, "")));
    found
}

impl Item {
    /// Whether a colon ends the name of a group: nothing but a phrase stands before it (section 3.4).
    fn begins_group(&self, after: &str) -> bool {
        self.angle.is_none() && !self.phrase.contains('@') && !after.starts_with("//")
    }

    /// Puts what was gathered into the list. Words before a comma are given back, since they may be half a name.
    fn finish(self, half: Option<String>, found: &mut Vec<Mailbox>, comma: bool) -> Option<String> {
        let phrase = self.phrase.trim();
        if let Some(address) = &self.angle {
            let name = match &half {
                Some(half) if !phrase.is_empty() => format!("{half}, {phrase}"),
                Some(half) => half.clone(),
                None if phrase.is_empty() => self.comment.trim().to_owned(),
                None => phrase.to_owned(),
            };
            found.extend(mailbox(&name, address));
            return None;
        }
        found.extend(half.and_then(|name| mailbox(&name, "")));
        if phrase.is_empty() {
            return None;
        }
        if !phrase.contains('@') || (self.quoted && super::Address::parse(&compact(phrase)).is_err()) {
            if comma {
                return Some(phrase.to_owned());
            }
            found.extend(mailbox(phrase, ""));
            return None;
        }
        let (name, address) = bare(phrase);
        let name = if name.is_empty() { self.comment.trim() } else { name.as_str() };
        found.extend(mailbox(name, &address));
        None
    }
}

/// An address without brackets: the whole text, or the word with the "@" beside a name.
fn bare(phrase: &str) -> (String, String) {
    if super::Address::parse(phrase).is_ok() {
        return (String::new(), phrase.to_owned());
    }
    let whole = compact(phrase);
    let spaced = ["@ ", " @", ". ", " ."].iter().any(|pair| phrase.contains(pair));
    let mut words: Vec<&str> = phrase.split_whitespace().collect();
    if words.len() < 2 || (spaced && super::Address::parse(&whole).is_ok()) {
        return (String::new(), whole);
    }
    let Some(at) = words.iter().position(|word| word.contains('@')) else { return (String::new(), whole) };
    let address = words.remove(at).trim_matches(['[', ']', '\'']).trim_start_matches("mailto:").to_owned();
    (words.join(" "), address)
}

fn compact(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// A quoted string, up to its end; one that has none is text like any other.
fn quoted<'l>(after: &'l str, item: &mut Item, unended: &mut usize) -> &'l str {
    if *unended >= MAX_UNENDED {
        return after;
    }
    let mut escaped = false;
    let end = after.find(|c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some(end) = end else {
        *unended += 1;
        return after;
    };
    let inner = unescaped(&after[..end]);
    let rest = &after[end + 1..];
    if rest.trim_start().starts_with('@') {
        // A quoted local part keeps its quotes.
        item.phrase.push('"');
        item.phrase.push_str(&after[..end]);
        item.phrase.push('"');
    } else {
        item.quoted = true;
        item.phrase.push_str(&inner);
    }
    rest
}

fn unescaped(text: &str) -> String {
    let mut escaped = false;
    let keep = |c: &char| {
        escaped = *c == '\\' && !escaped;
        !escaped
    };
    text.chars().filter(keep).collect()
}

/// A comment with those in it, up to its end; one that has none is text like any other.
fn comment<'l>(after: &'l str, item: &mut Item, unended: &mut usize) -> &'l str {
    if *unended >= MAX_UNENDED {
        return after;
    }
    let (mut depth, mut escaped) = (1usize, false);
    for (at, c) in after.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = true,
            '(' if depth < MAX_COMMENTS => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            if item.comment.is_empty() {
                item.comment = unescaped(&after[..at]);
            }
            item.phrase.push(' ');
            return &after[at + 1..];
        }
    }
    *unended += 1;
    after
}

/// What stands in angle brackets, without comments and without a route (section 4.4). The first address counts.
fn angle<'l>(after: &'l str, item: &mut Item, unended: &mut usize) -> &'l str {
    let end = after.find('>').unwrap_or(after.len());
    let mut inner = Item::default();
    let mut rest = &after[..end];
    while let Some(c) = rest.chars().next() {
        let behind = &rest[c.len_utf8()..];
        rest = match c {
            '(' => comment(behind, &mut inner, unended),
            '<' => behind,
            c => {
                inner.phrase.push(c);
                behind
            }
        };
    }
    let address = inner.phrase.trim();
    let address = match address.strip_prefix('@').and_then(|route| route.split_once(':')) {
        Some((_, address)) => address,
        None => address.strip_prefix("mailto:").unwrap_or(address),
    };
    let local_quoted = address.starts_with('"');
    let address = if local_quoted { address.to_owned() } else { compact(address) };
    if item.angle.as_ref().is_none_or(|known| !known.contains('@')) {
        item.angle = Some(address);
    }
    // Brackets that were opened twice are closed twice.
    after.get(end + 1..).unwrap_or_default().trim_start_matches('>')
}

/// The mailbox of a name and an address, both still encoded.
fn mailbox(name: &str, address: &str) -> Option<Mailbox> {
    let plain = |text: &str| {
        let decoded = words::decode(text);
        let shown = decoded.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        shown.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut name = plain(name);
    let mut address: String = words::decode(address)
        .chars()
        .filter(|c| !c.is_control() && (!c.is_whitespace() || address.starts_with('"')))
        .collect();
    if address.is_empty() {
        // A lone word is an address without a domain, such as "MAILER-DAEMON"; several words are only a name. Some
        // programs encode the address along with the name.
        let lone = !name.is_empty() && !name.contains(char::is_whitespace);
        let whole = name.strip_suffix('>').and_then(|rest| rest.rsplit_once('<'));
        if let Some((before, inner)) = whole.filter(|(_, inner)| super::Address::parse(inner).is_ok()) {
            address = inner.to_owned();
            name = before.trim().trim_matches('"').to_owned();
        } else if lone {
            address = std::mem::take(&mut name);
        }
    }
    (!name.is_empty() || !address.is_empty()).then_some(Mailbox { name, address })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lists_of_every_shape() {
        let table = [
            ("a@b.example", "|a@b.example"),
            ("Smith, John <j@b.example>, c@d.example", "Smith, John|j@b.example;|c@d.example"),
            ("Smith, John <j@b.example>, Doe, Jane <d@b.example>", "Smith, John|j@b.example;Doe, Jane|d@b.example"),
            ("\"Smith, John\" <j@b.example>", "Smith, John|j@b.example"),
            ("\"a \\\"b\\\" c\" <j@b.example>", "a \"b\" c|j@b.example"),
            ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete|pete@silly.test"),
            ("j@b.example (John (the one) Smith)", "John (the one) Smith|j@b.example"),
            ("(his name) <j@b.example>", "his name|j@b.example"),
            (
                "Mary <@one.example,@two.example:mary@b.example>, jdoe@test  . example",
                "Mary|mary@b.example;|jdoe@test.example",
            ),
            (
                "A Group(Some people):Chris <c@(his host)public.example>, joe@b.example; (the end)",
                "Chris|c@public.example;|joe@b.example",
            ),
            ("Undisclosed recipients:;", ""),
            ("(Empty)(start)Undisclosed recipients  :(nobody(I know))  ;", ""),
            ("a@b.example; c@b.example", "|a@b.example;|c@b.example"),
            ("John Smith j@b.example", "John Smith|j@b.example"),
            ("j@b.example <j@b.example>", "j@b.example|j@b.example"),
            ("<<j@b.example>>", "|j@b.example"),
            ("John <j@b.example", "John|j@b.example"),
            ("John \"Jo <j@b.example>", "John Jo|j@b.example"),
            ("John (Jo <j@b.example>", "John Jo|j@b.example"),
            ("J. (Jo) Smith <j@b.example>", "J. Smith|j@b.example"),
            ("\"a b\"@b.example", "|\"a b\"@b.example"),
            ("<\"a b\"@b.example>", "|\"a b\"@b.example"),
            ("<mailto:j@b.example>", "|j@b.example"),
            ("j@b.example on behalf of Shop <s@b.example>", "j@b.example on behalf of Shop|s@b.example"),
            ("=?utf-8?B?Sm9obiA8akBiLmV4YW1wbGU+?=", "John|j@b.example"),
            ("MAILER-DAEMON", "|MAILER-DAEMON"),
            ("root, Only A Name", "|root;Only A Name|"),
            ("<>", ""),
            (" , ,; ", ""),
        ];
        for (line, want) in table {
            let got: Vec<String> = parse(line).iter().map(|m| format!("{}|{}", m.name, m.address)).collect();
            assert_eq!(got.join(";"), want, "{line:?}");
        }
    }

    #[test]
    fn hostile_lists_take_linear_time() {
        for piece in ["(", "\"", "<", ",", "a@", ":", "()", "<>", "\"\"", "\\"] {
            parse(&piece.repeat(20_000));
        }
    }
}
