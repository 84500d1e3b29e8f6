//! Who writes a mail, read strictly: what cannot be read in one way only is no answer.
//!
//! Elsewhere addresses are read generously. Where a sender is held against a list, a reader at the far end may take a
//! generous field otherwise than we do, so here it must be what RFC 5322 section 3.6.2 asks for.

use super::address::Address;
use super::fields;

/// The longest field that is read.
const LONGEST: usize = 16 << 10;

/// The addresses of a From or Sender field: `None` of a group, of a mailbox without an address, and of whatever is no
/// list of mailboxes. An address among the unquoted words in front of another one counts too: some readers take it.
pub fn authors(raw: &[u8]) -> Option<Vec<Address>> {
    // Readers cut long values, each elsewhere.
    if raw.len() > LONGEST {
        return None;
    }
    let line = fields::unfolded(raw);
    let mut found = Vec::new();
    for mailbox in mailboxes(&line)? {
        let Some(angle) = mailbox.angle else {
            found.push(Address::parse(mailbox.words.trim()).ok()?);
            continue;
        };
        found.push(Address::parse(angle.trim()).ok()?);
        found.extend(mailbox.bare.split_whitespace().filter_map(|word| Address::parse(word).ok()));
    }
    Some(found)
}

/// One mailbox, without its comments.
#[derive(Default)]
struct Mailbox {
    /// What stands outside angle brackets.
    words: String,
    /// The same without what stands in quotes.
    bare: String,
    /// What stands between angle brackets.
    angle: Option<String>,
}

impl Mailbox {
    fn add(&mut self, c: char) {
        self.words.push(c);
        self.bare.push(c);
    }
}

/// Where in a field a character stands.
#[derive(Clone, Copy)]
enum Place {
    Words,
    Quotes,
    Angle,
    QuotesInAngle,
    /// So deep in comments.
    Comment(u32),
}

/// The field, cut at its commas.
fn mailboxes(line: &str) -> Option<Vec<Mailbox>> {
    let (mut all, mut one, mut place) = (Vec::new(), Mailbox::default(), Place::Words);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        place = match (place, c) {
            (Place::Words, '"') => {
                one.add(c);
                Place::Quotes
            }
            (Place::Words, '(') => {
                one.add(' ');
                Place::Comment(1)
            }
            (Place::Words, ',') => {
                all.push(std::mem::take(&mut one));
                Place::Words
            }
            (Place::Words, '<') if one.angle.is_none() => {
                one.angle = Some(String::new());
                Place::Angle
            }
            // The marks of groups, and ends of what has not begun.
            (Place::Words, ':' | ';' | '<' | '>' | ')' | '\\') => return None,
            (Place::Words, c) if one.angle.is_some() && !c.is_whitespace() => return None,
            (Place::Words, c) => {
                one.add(c);
                Place::Words
            }
            (Place::Quotes | Place::QuotesInAngle, c) => quoted(place, c, &mut chars, &mut one)?,
            (Place::Angle, c) => in_angle(c, &mut one)?,
            (Place::Comment(depth), c) => in_comment(depth, c, &mut chars)?,
        };
    }
    all.push(one);
    matches!(place, Place::Words).then_some(all)
}

/// A character between quotes; one behind a backslash stands for itself.
fn quoted(place: Place, c: char, chars: &mut std::str::Chars<'_>, one: &mut Mailbox) -> Option<Place> {
    let (text, outside) = match place {
        Place::QuotesInAngle => (one.angle.get_or_insert_default(), Place::Angle),
        _ => (&mut one.words, Place::Words),
    };
    text.push(c);
    if c == '\\' {
        text.push(chars.next()?);
    }
    Some(if c == '"' { outside } else { place })
}

fn in_angle(c: char, one: &mut Mailbox) -> Option<Place> {
    match c {
        '>' => return Some(Place::Words),
        // Routes and comments are obsolete there (RFC 5322 section 4.4).
        '<' | '(' | ')' | ',' | ':' | ';' | '\\' => return None,
        _ => one.angle.get_or_insert_default().push(c),
    }
    Some(if c == '"' { Place::QuotesInAngle } else { Place::Angle })
}

fn in_comment(depth: u32, c: char, chars: &mut std::str::Chars<'_>) -> Option<Place> {
    Some(match c {
        '\\' => {
            chars.next()?;
            Place::Comment(depth)
        }
        '(' => Place::Comment(depth.checked_add(1)?),
        ')' if depth == 1 => Place::Words,
        ')' => Place::Comment(depth - 1),
        _ => Place::Comment(depth),
    })
}

#[cfg(test)]
mod tests {
    use super::authors;

    #[test]
    fn what_can_be_read_in_one_way_is_read_and_nothing_else() {
        let table = [
            ("a@b.example", Some("a@b.example")),
            (" A <a@b.example>\r\n", Some("a@b.example")),
            (
                "\"B, \\\"A\\\" <x@y>\" <a@b.example>, Ü\r\n\t< c@d.example > (who (is) that\\))",
                Some("a@b.example c@d.example"),
            ),
            ("a@b.example (Ann)", Some("a@b.example")),
            ("=?utf-8?q?A=40b?= <a@b.example>", Some("a@b.example")),
            ("\"x@y.example\" <a@b.example>", Some("a@b.example")),
            ("x@y.example <a@b.example>", Some("a@b.example x@y.example")),
            ("Shop @ Home <a@b.example>", Some("a@b.example")),
            ("\"a b\"@b.example", Some("\"a b\"@b.example")),
            ("<\"a>b\"@b.example>", Some("\"a>b\"@b.example")),
            ("", None),
            ("The Boss", None),
            ("The Boss <>", None),
            ("a@b.example,", None),
            ("a@b.example c@d.example", None),
            ("<a@b.example> <c@d.example>", None),
            ("<a@b.example> c@d.example", None),
            ("boss@c.example:a@b.example;", None),
            ("Team: a@b.example;", None),
            ("<@r.example:a@b.example>", None),
            ("a(x)@b.example", None),
            ("a@b.example (open", None),
            ("\"open <a@b.example>", None),
            ("=?utf-8?q?a=40b.example?=", None),
            ("a@b.example; c@d.example", None),
        ];
        for (field, want) in table {
            let got = authors(field.as_bytes());
            let got = got.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(got.as_deref(), want, "{field:?}");
        }
        assert_eq!(authors(format!("\"{}\" <a@b.example>", "x".repeat(20_000)).as_bytes()), None);
    }
}
