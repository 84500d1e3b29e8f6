//! The body of a mail from its parts: what was written, the signature below it, and what is answered, quoted.

use super::{Body, Quote, Words, escape, flowed, html, lines, markdown, one_line};

/// Of what is answered, so many lines and bytes are quoted; the reader has the whole.
const QUOTED_LINES: usize = 500;
const QUOTED_BYTES: usize = 64 << 10;

/// Text, and HTML where there is some; both with CRLF line ends.
pub struct Assembled {
    /// As format=flowed.
    pub text: String,
    pub html: Option<String>,
}

/// Puts the body together.
pub fn assemble(words: &Words, signature: Option<&str>, quote: Option<&Quote>) -> Assembled {
    let made = match (&words.html, &words.body) {
        (Some(html), _) => Some(lines(html)),
        (None, Body::Markdown(source)) => markdown::to_html(&lines(source)),
        (None, Body::Text(_)) => None,
    };
    let (Body::Text(source) | Body::Markdown(source)) = &words.body;
    let mut text = lines(source).trim_end().to_owned();
    if let (true, Some(html)) = (text.is_empty(), &made) {
        text = html::to_text(html).trim_end().to_owned();
    }
    let signature = signature.map(|signature| lines(signature).trim_end().to_owned()).filter(|text| !text.is_empty());
    let quoted = quote.map(quoted);
    if let Some(signature) = &signature {
        text.push_str("\n\n-- \n");
        text.push_str(signature);
    }
    if let Some((attribution, lines)) = &quoted {
        text.push_str("\n\n");
        text.push_str(attribution);
        for line in lines {
            text.push_str("\n>");
            // Marks of deeper quotes stand together.
            text.push_str(if line.starts_with('>') || line.is_empty() { "" } else { " " });
            text.push_str(line);
        }
    }
    let html = made.map(|html| with_below(&html, &below(signature.as_deref(), quoted.as_ref())).replace('\n', "\r\n"));
    Assembled { text: flowed::encode(text.trim_start_matches('\n')), html }
}

/// Who wrote what is quoted, and its lines.
fn quoted(quote: &Quote) -> (String, Vec<String>) {
    let who = match (one_line(&quote.from.name, 200), one_line(&quote.from.address, 254)) {
        (name, address) if name.is_empty() => address,
        (name, address) if address.is_empty() => name,
        (name, address) => format!("{name} <{address}>"),
    };
    let when = quote.at.map(|at| at.strftime("On %d %b %Y at %H:%M UTC, ").to_string()).unwrap_or_default();
    let text = lines(&quote.text);
    let end = (0..=text.len().min(QUOTED_BYTES)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let mut quoted: Vec<String> = text[..end].trim_end().split('\n').map(|line| line.trim_end().to_owned()).collect();
    if quoted.len() > QUOTED_LINES || end < text.len() {
        quoted.truncate(QUOTED_LINES);
        quoted.push("[…]".to_owned());
    }
    (format!("{when}{who} wrote:"), quoted)
}

/// Signature and quote as HTML.
fn below(signature: Option<&str>, quoted: Option<&(String, Vec<String>)>) -> String {
    let mut out = String::new();
    if let Some(signature) = signature {
        let lines: Vec<String> = signature.split('\n').map(escape).collect();
        out.push_str(&format!("<p>-- <br>\n{}</p>\n", lines.join("<br>\n")));
    }
    if let Some((attribution, lines)) = quoted {
        let lines: Vec<String> = lines.iter().map(|line| escape(line)).collect();
        out.push_str(&format!(
            "<p>{}</p>\n<blockquote type=\"cite\">{}</blockquote>\n",
            escape(attribution),
            lines.join("<br>\n")
        ));
    }
    out
}

/// The HTML as a whole document, with more of it at its end.
fn with_below(html: &str, below: &str) -> String {
    // ASCII lower case keeps every offset.
    let lower = html.to_ascii_lowercase();
    if !lower.contains("<html") && !lower.contains("<body") {
        return format!(
            "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head><body>\n{}\n{below}</body></html>\n",
            html.trim_end()
        );
    }
    let end = lower.rfind("</body").or_else(|| lower.rfind("</html")).unwrap_or(html.len());
    format!("{}{below}{}", &html[..end], &html[end..])
}
