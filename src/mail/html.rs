//! Text from HTML. The one file that knows html2text.

use html2text::render::{TaggedLine, TextDecorator};

use super::quoted::{MARK, QUOTE_BEGINS, is_mark};

/// The largest HTML that is rendered: the renderer takes some 300 times the memory of its input in bad cases. Of larger
/// HTML the tags are merely taken out.
const MAX_RENDERED: usize = 256 << 10;

/// The deepest nesting that is rendered: the renderer keeps state for each level.
const MAX_NESTING: usize = 200;

/// The most bytes that marks of quotes and lists may come to: each line has those of all that it stands in.
const MAX_MARKS: usize = 4 << 20;

/// How long one is, such as "> ".
const MARK_WIDTH: usize = 2;

/// The most digits of a number of columns or rows that one cell takes; the renderer has no limit of its own.
const MAX_SPAN_DIGITS: usize = 3;

/// Wide enough that no sentence is broken into lines.
const WIDTH: usize = 1000;

/// Elements whose text nobody is meant to read.
const UNREAD: &[&str] = &["style", "script", "title", "head"];

/// Elements that begin or end a line.
const LINES: &[&str] =
    &["br", "p", "div", "tr", "li", "h1", "h2", "h3", "table", "blockquote", "ul", "ol", "hr", "pre"];

/// What the tag holds, in lower case and without spaces, with which mail programs begin the mail that is answered, where
/// that is no blockquote: Outlook of all kinds, Zimbra, Yahoo, Proton.
const QUOTING: &[&str] = &[
    "divrplyfwdmsg",
    "olk_src_body_section",
    "appendonsend",
    "mail-editor-reference-message-container",
    "ms-outlook-mobile-reference-message",
    "border-top:solid#e1e1e11.0pt;padding:3.0pt0",
    "border-top:solid#b5c4df1.0pt;padding:3.0pt0",
    "border-top-color:rgb(229,229,229);border-top-width:1px",
    "data-marker=\"__divider__\"",
    "class=\"yahoo_quoted\"",
    "class=\"protonmail_quote\"",
];

/// The longest tag that is looked at for one of those.
const LONGEST_TAG: usize = 1000;

/// The text of an HTML part, with a line of `QUOTE_BEGINS` where a mail program says that the quoted mail begins.
pub fn to_marked_text(html: &str) -> String {
    match marked(html) {
        Some(marked) => divided(to_text(&marked)),
        None => to_text(html),
    }
}

/// Gives a mark lines of its own that ended up in the middle of one, as it does in HTML that is broken.
fn divided(text: String) -> String {
    if !text.lines().any(|line| line.contains(QUOTE_BEGINS) && !is_mark(line)) {
        return text;
    }
    let apart = format!("\n{MARK}\n");
    let lines = text.lines().map(|line| if is_mark(line) { line.to_owned() } else { line.replace(MARK, &apart) });
    lines.collect::<Vec<_>>().join("\n")
}

/// Takes the marks out again.
pub fn without_marks(text: String) -> String {
    if !text.contains(QUOTE_BEGINS) {
        return text;
    }
    let lines = text.split_inclusive('\n').filter(|line| !is_mark(line));
    tidy(&lines.collect::<String>())
}

/// The HTML with a mark before the first tag that begins the mail that is answered, if there is one.
fn marked(html: &str) -> Option<String> {
    let quotes = |at: &usize| {
        // A tag ends where the next begins, so that no byte is looked at twice.
        let tag = html[at + 1..].bytes().take(LONGEST_TAG).take_while(|byte| !matches!(byte, b'<' | b'>'));
        let mut tag: Vec<u8> = tag.filter(|byte| !byte.is_ascii_whitespace()).collect();
        tag.make_ascii_lowercase();
        tag.iter_mut().filter(|byte| **byte == b'\'').for_each(|byte| *byte = b'"');
        tag.contains(&b'=')
            && tag.first().is_some_and(u8::is_ascii_alphabetic)
            && QUOTING.iter().any(|words| memchr::memmem::find(&tag, words.as_bytes()).is_some())
    };
    let at = html.match_indices('<').map(|(at, _)| at).find(quotes)?;
    Some(format!("{}<p>{MARK}</p>{}", &html[..at], &html[at..]))
}

/// The text of an HTML part.
pub fn to_text(html: &str) -> String {
    if !has_tags(html) {
        // Plain text that is called HTML keeps its lines.
        return tidy(&without_entities(html.to_owned()));
    }
    if html.len() > MAX_RENDERED || nested_far(html) || spans_far(html) {
        return without_tags(html);
    }
    // Tables in mail are for layout: as lines they read better than as columns.
    let config = html2text::config::with_decorator(Reading).raw_mode(true).allow_width_overflow();
    // The renderer has tripped over its input before; a mail that does it once more is still to be read.
    let rendered = std::panic::catch_unwind(|| config.string_from_read(html.as_bytes(), WIDTH));
    match rendered {
        Ok(Ok(text)) => tidy(&text),
        _ => without_tags(html),
    }
}

/// Whether a cell claims to be wider or higher than any real one.
fn spans_far(html: &str) -> bool {
    let after = |name: &str| {
        let found = html.match_indices(name).map(|(at, _)| &html[at + name.len()..]);
        found
            .map(|rest| rest.trim_start_matches(['=', '"', '\'', ' ', '\t', '\r', '\n']))
            .any(|rest| rest.bytes().take_while(u8::is_ascii_digit).take(MAX_SPAN_DIGITS + 1).count() > MAX_SPAN_DIGITS)
    };
    ["olspan", "owspan", "OLSPAN", "OWSPAN", "olSpan", "owSpan"].into_iter().any(after)
}

/// No more than one empty line in a row, and no space at line ends.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 1;
    for line in text.lines().map(str::trim_end) {
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Whether elements stand too deep in each other, or so deep in quotes and lists that their marks would be most of the
/// text. Counts too much rather than too little; void elements count for little, since they end nothing.
fn nested_far(html: &str) -> bool {
    let void = ["br", "img", "hr", "meta", "link", "input", "col", "!", "?", "p>", "p ", "li", "td", "tr", "o:"];
    let marked = |head: &str| ["block", "ul", "ol", "dl"].iter().any(|name| head.starts_with(name));
    let (mut depth, mut marks, mut deepest, mut most_marks, mut tags) = (0usize, 0usize, 0, 0, 0);
    for tag in html.split('<').skip(1) {
        tags += 1;
        let head: String = tag.chars().take(5).collect::<String>().to_ascii_lowercase();
        if let Some(end) = head.strip_prefix('/') {
            if !["p", "li", "td", "tr", "o:"].iter().any(|name| end.starts_with(name)) {
                depth = depth.saturating_sub(1);
            }
            // Of "/blockquote" four letters are left.
            marks = marks.saturating_sub(usize::from(end == "bloc" || marked(end)));
        } else if head.starts_with(|c: char| c.is_ascii_alphabetic()) && !void.iter().any(|name| head.starts_with(name))
        {
            depth += 1;
            marks += usize::from(marked(&head));
            (deepest, most_marks) = (deepest.max(depth), most_marks.max(marks));
        }
    }
    deepest > MAX_NESTING || most_marks * tags * MARK_WIDTH > MAX_MARKS
}

/// What is left when the tags are gone: crude, but linear.
fn without_tags(html: &str) -> String {
    let mut out = String::with_capacity(html.len() / 2);
    let mut unread: Option<&str> = None;
    for (index, piece) in html.split('<').enumerate() {
        let (tag, text) = if index == 0 { ("", piece) } else { piece.split_once('>').unwrap_or((piece, "")) };
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/').take(12).collect();
        let name = name.to_ascii_lowercase();
        let (name, ends) = name.strip_prefix('/').map_or((name.as_str(), false), |name| (name, true));
        if let Some(element) = unread {
            unread = (!(ends && name == element)).then_some(element);
        } else if !ends {
            unread = UNREAD.iter().find(|element| **element == name).copied();
        }
        if unread.is_some() {
            continue;
        }
        if LINES.contains(&name.trim_end_matches('/')) {
            out.push('\n');
        }
        out.push_str(text);
    }
    tidy(&without_entities(out))
}

fn without_entities(text: String) -> String {
    let entities = [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text, |text, (entity, c)| if text.contains(entity) { text.replace(entity, c) } else { text })
}

/// Whether some element begins or ends in it. An address in angle brackets is none.
fn has_tags(html: &str) -> bool {
    html.split('<').skip(1).any(|tag| {
        let name = tag.trim_start_matches('/').bytes().take_while(u8::is_ascii_alphanumeric).count();
        let ends = tag.trim_start_matches('/').as_bytes().get(name);
        (1..=20).contains(&name) && matches!(ends, Some(b'>' | b' ' | b'/' | b'\n' | b'\r' | b'\t'))
            || tag.starts_with("!--")
    })
}

/// Marks quotes and list items, and nothing else: people read the text, nobody renders it again.
#[derive(Clone)]
struct Reading;

impl TextDecorator for Reading {
    type Annotation = ();

    fn quote_prefix(&self) -> String {
        "> ".to_owned()
    }
    fn unordered_item_prefix(&self) -> String {
        "* ".to_owned()
    }
    fn ordered_item_prefix(&self, number: i64) -> String {
        format!("{number}. ")
    }
    fn header_prefix(&self, _level: usize) -> String {
        String::new()
    }
    fn decorate_link_start(&mut self, _url: &str) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_link_end(&mut self) -> String {
        String::new()
    }
    fn decorate_image(&mut self, _source: &str, title: &str) -> (String, ()) {
        (title.to_owned(), ())
    }
    fn decorate_preformat_first(&self) {}
    fn decorate_preformat_cont(&self) {}
    fn make_subblock_decorator(&self) -> Self {
        Self
    }
    fn decorate_em_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_em_end(&self) -> String {
        String::new()
    }
    fn decorate_strong_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_strong_end(&self) -> String {
        String::new()
    }
    fn decorate_strikeout_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_strikeout_end(&self) -> String {
        String::new()
    }
    fn decorate_code_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_code_end(&self) -> String {
        String::new()
    }
    fn decorate_superscript_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_superscript_end(&self) -> String {
        String::new()
    }
    fn finalise(&mut self, _urls: Vec<String>) -> Vec<TaggedLine<()>> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::to_text;

    #[test]
    fn text_comes_out_whole_and_plain() {
        let table = [
            ("<p>One <b>two</b></p><p>three<br>four</p>", "One two\n\nthree\nfour"),
            ("<style>p{}</style><script>x</script>text &amp; more", "text & more"),
            ("<table><tr><td>a</td><td>b</td></tr></table>", "a\nb"),
            ("<a href='https://x.example/'>link</a>", "link"),
            ("<p>a</p><blockquote><p>b</p></blockquote>", "a\n\n> b"),
            ("<td colspan=1000000>a</td><p>b", "a\nb"),
            ("", ""),
        ];
        for (html, want) in table {
            assert_eq!(to_text(html).replace("  ", " "), want, "{html}");
        }
        let long = format!("<style>p {{}}</style><p>a &amp; b{}<br/>c</p>", " ".repeat(300_000));
        assert_eq!(to_text(&long), "a & b\nc");
        let deep = "<div>".repeat(100_000) + "deep";
        assert_eq!(to_text(&deep), "deep");
        // Each of these lines has the marks of all quotes that it stands in.
        let quoted = "<blockquote>".repeat(100) + &"<p>x".repeat(40_000);
        assert!(to_text(&quoted).len() < quoted.len());
    }

    #[test]
    fn programs_say_where_the_quoted_mail_begins() {
        let table = [
            "<p>New</p><div id=\"divRplyFwdMsg\" dir=ltr>Old</div>",
            "<div>New</div><div style='border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm'>Old</div>",
            "<div>New</div><span id=OLK_SRC_BODY_SECTION>Old</span>",
            "<div>New</div><hr id=\"zwchr\" data-marker=\"__DIVIDER__\"><div>Old</div>",
            "<div>New</div><div class='yahoo_quoted'>Old</div>",
        ];
        for html in table {
            let marked = super::to_marked_text(html);
            assert_eq!(crate::mail::quoted::new_text(&marked, "Re: x"), "New", "{html}");
            assert_eq!(
                super::without_marks(marked).replace("\n\n", "\n").trim(),
                to_text(html).replace("\n\n", "\n"),
                "{html}"
            );
        }
        super::to_marked_text(&"<a ".repeat(200_000));
    }
}
