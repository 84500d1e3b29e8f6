//! Markdown to HTML. The one file that knows pulldown-cmark.
//!
//! What comes out has no element that the text did not ask for in Markdown: raw HTML is shown as it was typed, links
//! lead to the web, to mail or to a telephone, and nowhere else.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// Where links may lead.
const SCHEMES: &[&str] = &["https:", "http:", "mailto:", "tel:", "cid:"];

/// Quotes and lists may be nested this deep; of text that goes deeper nobody could read a rendering.
const DEEPEST: usize = 100;

/// The HTML of a text, or nothing where it is nested beyond reason.
pub fn to_html(markdown: &str) -> Option<String> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut events = Vec::new();
    let mut depth = 0usize;
    for event in Parser::new_ext(markdown, options) {
        match &event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return None;
        }
        events.extend(harmless(event));
    }
    let mut out = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut out, events.into_iter());
    Some(out)
}

/// The event as it may be rendered.
fn harmless(event: Event<'_>) -> Option<Event<'_>> {
    Some(match event {
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
        Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
        // Who writes a mail means the line breaks that he makes.
        Event::SoftBreak => Event::HardBreak,
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: destination(dest_url), title, id })
        }
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Image { link_type, dest_url: destination(dest_url), title, id })
        }
        other => other,
    })
}

/// The destination, or `#` for one that is not for mail. An address in angle brackets comes without its scheme, which
/// the renderer adds.
fn destination(url: CowStr<'_>) -> CowStr<'_> {
    let lower = url.to_ascii_lowercase();
    let bare_address = !lower.contains(':') && super::Address::parse(&lower).is_ok();
    if bare_address || SCHEMES.iter().any(|scheme| lower.starts_with(scheme)) { url } else { CowStr::Borrowed("#") }
}

#[cfg(test)]
mod tests {
    use super::to_html;

    #[test]
    fn markdown_is_rendered_and_html_is_not_obeyed() {
        let table = [
            ("Hello *you*,\nbye", "<p>Hello <em>you</em>,<br />\nbye</p>\n"),
            ("1. a\n2. b", "<ol>\n<li>a</li>\n<li>b</li>\n</ol>\n"),
            ("`a < b`", "<p><code>a &lt; b</code></p>\n"),
            ("[x](https://x.example/?a=1&b=2)", "<p><a href=\"https://x.example/?a=1&amp;b=2\">x</a></p>\n"),
            ("<eve@x.example>", "<p><a href=\"mailto:eve@x.example\">eve@x.example</a></p>\n"),
            ("[x](javascript:alert(1))", "<p><a href=\"#\">x</a></p>\n"),
            ("[x](JavaScript:alert(1))", "<p><a href=\"#\">x</a></p>\n"),
            ("[x](data:text/html,y)", "<p><a href=\"#\">x</a></p>\n"),
            ("a <b onclick=x>c</b>", "<p>a &lt;b onclick=x&gt;c&lt;/b&gt;</p>\n"),
            ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
            ("![p](cid:logo)", "<p><img src=\"cid:logo\" alt=\"p\" /></p>\n"),
        ];
        for (markdown, want) in table {
            assert_eq!(to_html(markdown).as_deref(), Some(want), "{markdown}");
        }
        assert_eq!(to_html(&"> ".repeat(5_000)), None);
    }
}
