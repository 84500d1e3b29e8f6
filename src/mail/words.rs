//! Encoded words: text of other charsets in header fields (RFC 2047).
//!
//! Read generously: a character may be cut between two words, data may hold spaces, padding may be missing, words may
//! stand where the RFC forbids them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::text;

/// The longest data of one word that is looked through for its end; section 2 allows 75 characters for a whole word.
const MAX_WORD: usize = 16 << 10;

/// A run of words of one charset, decoded to bytes.
struct Run<'a> {
    charset: &'a str,
    bytes: Vec<u8>,
}

/// The text with every encoded word decoded. Space between two words is not part of the text (section 6.2).
pub fn decode(input: &str) -> Cow<'_, str> {
    rewrite(input, |decoded, out| out.push_str(decoded))
}

/// The text with each run of encoded words as one whole word in UTF-8: what a parser of structured fields can take.
pub fn normalise(input: &str) -> Cow<'_, str> {
    rewrite(input, |decoded, out| {
        out.push_str("=?utf-8?B?");
        STANDARD.encode_string(decoded, out);
        out.push_str("?=");
    })
}

fn rewrite(input: &str, emit: impl Fn(&str, &mut String)) -> Cow<'_, str> {
    if !input.contains("=?") {
        return Cow::Borrowed(input);
    }
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find("=?") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match words(from) {
            Some((decoded, after)) => {
                emit(&decoded, &mut out);
                rest = after;
            }
            None => {
                out.push_str("=?");
                rest = &from[2..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Decodes the words that stand at the start of `from` with nothing but space between them.
fn words(from: &str) -> Option<(String, &str)> {
    let (first, mut rest) = word(from)?;
    let mut run = first;
    let mut decoded = String::new();
    loop {
        let next = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some((another, after)) = word(next) else { break };
        if another.charset.eq_ignore_ascii_case(run.charset) && !is_stateful(run.charset) {
            run.bytes.extend_from_slice(&another.bytes);
        } else {
            decoded.push_str(&text::decode(&run.bytes, Some(run.charset)));
            run = another;
        }
        rest = after;
    }
    decoded.push_str(&text::decode(&run.bytes, Some(run.charset)));
    Some((decoded, rest))
}

/// Whether each word of that charset begins anew: its shift sequences would clash with those of the word before.
fn is_stateful(charset: &str) -> bool {
    let start = charset.get(..8).unwrap_or(charset).to_ascii_lowercase();
    start == "iso-2022" || start.starts_with("utf-7") || start.starts_with("hz-")
}

/// One word `=?charset?B|Q?data?=`, and what follows it. A language behind the charset is passed over (RFC 2231).
fn word(from: &str) -> Option<(Run<'_>, &str)> {
    let inner = from.strip_prefix("=?")?;
    let (charset, inner) = inner.split_once('?')?;
    let (encoding, inner) = inner.split_once('?')?;
    if charset.is_empty() || charset.len() > 40 || charset.contains(|c: char| c.is_whitespace() || c == '=') {
        return None;
    }
    let end = memchr::memmem::find(&inner.as_bytes()[..inner.len().min(MAX_WORD)], b"?=")?;
    let (data, after) = (&inner[..end], &inner[end + 2..]);
    let bytes = match encoding {
        "b" | "B" => text::base64(data.as_bytes()),
        "q" | "Q" => q_bytes(data),
        _ => return None,
    };
    let charset = charset.split_once('*').map_or(charset, |(charset, _)| charset);
    // 8-bit text inside a word was turned into UTF-8 already.
    let charset = if data.is_ascii() { charset } else { "utf-8" };
    Some((Run { charset, bytes }, after))
}

/// The "Q" encoding: quoted-printable with `_` for a space (section 4.2).
fn q_bytes(data: &str) -> Vec<u8> {
    let spaced: Vec<u8> = data.bytes().map(|byte| if byte == b'_' { b' ' } else { byte }).collect();
    text::hex_escapes(&spaced)
}

#[cfg(test)]
mod tests {
    use super::{decode, normalise};

    #[test]
    fn words_are_decoded_and_broken_ones_left_alone() {
        let table = [
            ("plain", "plain"),
            ("=?utf-8?Q?Gr=C3=BC=C3=9Fe_aus?= Ulm", "Grüße aus Ulm"),
            ("=?UTF-8?B?R3LDvA==?= =?utf-8?b?w59l?=", "Grüße"),
            ("=?utf-8?Q?Gr=C3?= =?utf-8?Q?=BC=C3=9Fe?=", "Grüße"),
            ("=?iso-8859-1?q?Gr=FC=DFe?= =?utf-8?q?_=E2=82=AC?=", "Grüße €"),
            ("=?ISO-2022-JP?B?GyRCJUYlOSVIGyhC?=\r\n =?ISO-2022-JP?B?GyRCJUYlOSVIGyhC?=", "テストテスト"),
            ("=?iso-8859-1*de?q?Gr=FC=DFe?=", "Grüße"),
            ("=?iso-8859-1?Q?Gr\u{fc}\u{df}e?=", "Grüße"),
            ("=?utf-8?Q?two words?=", "two words"),
            ("=?utf-8?B?R3LDvA?=", "Grü"),
            ("=?utf-8?X?abc?= =?", "=?utf-8?X?abc?= =?"),
            ("=?utf-8?Q?never ends", "=?utf-8?Q?never ends"),
            ("1 =? 2", "1 =? 2"),
            ("=?utf-8?Q?=?=", "="),
        ];
        for (input, want) in table {
            assert_eq!(decode(input), want, "{input:?}");
        }
        assert_eq!(normalise("=?utf-8?Q?=2C?= <a@b>"), "=?utf-8?B?LA==?= <a@b>");
    }
}
