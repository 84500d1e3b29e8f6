//! Text as format=flowed (RFC 3676): long lines are broken softly, so that narrow and wide screens both show them well.

/// Lines that are written whole are at most this wide, in characters (RFC 3676 section 4.2).
const WIDEST: usize = 78;

/// Where longer ones are broken, quote marks included.
const WIDTH: usize = 72;

/// Quotes that are deeper than this are shown as this deep.
const DEEPEST: usize = 30;

/// The mark above a signature; its space belongs to it (section 4.3).
const SIGNATURE: &str = "-- ";

/// The text with soft breaks, quote marks in their canonical form and stuffed lines; lines end with CRLF.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    for line in text.trim_end_matches('\n').split('\n') {
        if line == SIGNATURE {
            out.push_str(SIGNATURE);
            out.push_str("\r\n");
            continue;
        }
        let (depth, content) = quoted(line);
        // A space at the end would join the line with the next one.
        for piece in pieces(content.trim_end_matches(' '), depth) {
            push_line(&mut out, depth, piece);
        }
    }
    out
}

/// How deep a line is quoted, and the line without its marks. `> > text` is as deep as `>> text`.
fn quoted(line: &str) -> (usize, &str) {
    let (mut depth, mut rest) = (0, line);
    while let Some(inner) = rest.strip_prefix('>').or_else(|| rest.strip_prefix(" >").filter(|_| depth > 0)) {
        (depth, rest) = (depth + 1, inner);
    }
    (depth.min(DEEPEST), if depth > 0 { rest.strip_prefix(' ').unwrap_or(rest) } else { rest })
}

/// Breaks a line behind spaces; every piece but the last ends with one.
fn pieces(line: &str, depth: usize) -> Vec<&str> {
    let marks = if depth > 0 { depth + 1 } else { 0 };
    if marks + line.chars().count() <= WIDEST {
        return vec![line];
    }
    let room = WIDTH - marks;
    let mut pieces = Vec::new();
    let (mut start, mut width, mut last_break) = (0, 0, None);
    let mut characters = line.char_indices().peekable();
    while let Some((_, c)) = characters.next() {
        width += 1;
        let next = characters.peek().map(|(at, next)| (*at, *next));
        if width > room
            && let Some((at, behind)) = last_break.take()
        {
            pieces.push(&line[start..at]);
            (start, width) = (at, width - behind);
        }
        // A line that is only "-- " would begin a signature.
        if let Some((at, next)) = next
            && c == ' '
            && next != ' '
            && &line[start..at] != SIGNATURE
        {
            last_break = Some((at, width));
        }
    }
    pieces.push(&line[start..]);
    pieces
}

fn push_line(out: &mut String, depth: usize, content: &str) {
    out.extend(std::iter::repeat_n('>', depth));
    // A space is put before what would be taken for a quote, a stuffed line, or the beginning of the next mail of an
    // mbox file (section 4.4).
    let stuffed = content.starts_with([' ', '>']) || content.starts_with("From ");
    if (depth > 0 && !content.is_empty()) || stuffed {
        out.push(' ');
    }
    out.push_str(content);
    out.push_str("\r\n");
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a reader makes of it: the paragraphs, each with its depth (RFC 3676 section 4.1 to 4.4).
    pub(in super::super) fn decode(flowed: &str) -> Vec<(usize, String)> {
        let mut paragraphs: Vec<(usize, String)> = Vec::new();
        let mut open = false;
        for line in flowed.strip_suffix("\r\n").unwrap_or(flowed).split("\r\n") {
            let content = line.trim_start_matches('>');
            let depth = line.len() - content.len();
            let content = content.strip_prefix(' ').unwrap_or(content);
            let soft = content.ends_with(' ') && content != SIGNATURE;
            match paragraphs.last_mut() {
                Some((before, text)) if open && *before == depth && content != SIGNATURE => text.push_str(content),
                _ => paragraphs.push((depth, content.to_owned())),
            }
            open = soft;
        }
        paragraphs
    }

    #[test]
    fn lines_break_softly_and_come_back_whole() {
        let long = "word ".repeat(40).trim_end().to_owned();
        let quoted_long = format!("> > {long}");
        let endless = "x".repeat(300);
        let trap = format!("{} -- {}", "a".repeat(70), "b".repeat(90));
        let table: &[(&str, &[(usize, &str)])] = &[
            ("", &[(0, "")]),
            ("one\n\ntwo", &[(0, "one"), (0, ""), (0, "two")]),
            ("ends with spaces   \nnext", &[(0, "ends with spaces"), (0, "next")]),
            (
                " indented\n>quoted\n> quoted too\n>> deeper",
                &[(0, " indented"), (1, "quoted"), (1, "quoted too"), (2, "deeper")],
            ),
            ("From here\n-- \nEve", &[(0, "From here"), (0, "-- "), (0, "Eve")]),
            (&long, &[(0, &long)]),
            (&quoted_long, &[(2, &long)]),
            (&endless, &[(0, &endless)]),
            (&trap, &[(0, &trap)]),
        ];
        for (text, want) in table {
            let flowed = encode(text);
            let want: Vec<(usize, String)> = want.iter().map(|(depth, text)| (*depth, (*text).to_owned())).collect();
            assert_eq!(decode(&flowed), want, "{text:?} as {flowed:?}");
        }
        assert!(encode(&quoted_long).lines().all(|line| line.len() <= WIDEST && line.starts_with(">> word")));
        assert_eq!(encode("From me\n>\n>  x"), " From me\r\n>\r\n>  x\r\n");
    }
}
