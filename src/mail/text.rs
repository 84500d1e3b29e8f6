//! Transfer encodings and charsets: from the bytes of a part to text (RFC 2045 section 6).

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};
use mail_parser::decoders::charsets::map::charset_decoder;

use super::uuencode;

/// How much of a text without a usable charset is looked at to guess one.
const GUESSED_BYTES: usize = 32 << 10;

/// How a body was made fit for transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferEncoding {
    /// 7bit, 8bit, binary, and whatever is not known.
    #[default]
    Identity,
    Base64,
    QuotedPrintable,
    Uuencode,
}

impl TransferEncoding {
    /// The encoding that a Content-Transfer-Encoding value names.
    pub fn from_value(value: &str) -> Self {
        let word = value.trim().trim_matches('"').split([';', ' ', '(']).next().unwrap_or_default();
        match word.to_ascii_lowercase().as_str() {
            "base64" => Self::Base64,
            "quoted-printable" => Self::QuotedPrintable,
            "uuencode" | "x-uuencode" | "x-uue" | "uue" => Self::Uuencode,
            _ => Self::Identity,
        }
    }

    /// The bytes that were encoded. Whatever is broken is skipped or kept as it stands.
    pub fn decode(self, body: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Identity => Cow::Borrowed(body),
            Self::Base64 => Cow::Owned(base64(body)),
            Self::QuotedPrintable => Cow::Owned(quoted_printable(body)),
            Self::Uuencode => Cow::Owned(uuencode::decode(body)),
        }
    }
}

/// Decodes base64 and skips what is none of its letters (RFC 2045 section 6.8). Padding ends a block, and text may
/// follow that was encoded by itself.
pub fn base64(input: &[u8]) -> Vec<u8> {
    well_formed_base64(input).unwrap_or_else(|| any_base64(input))
}

/// Decodes lines of nothing but letters, as nearly all mail has them, many times faster than letter by letter.
fn well_formed_base64(input: &[u8]) -> Option<Vec<u8>> {
    let mut letters = Vec::with_capacity(input.len());
    for line in input.split(|byte| *byte == b'\n') {
        letters.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
    }
    BASE64.decode(letters).ok()
}

/// The strict reading; what it refuses is read letter by letter, with the same result for what it takes.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn any_base64(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in input {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => {
                (bits, held) = (0, 0);
                continue;
            }
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    out
}

/// Decodes quoted-printable: escapes, soft line breaks, and space at line ends that transport added (section 6.7).
fn quoted_printable(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        let end = if line.ends_with(b"\r\n") {
            &b"\r\n"[..]
        } else if line.ends_with(b"\n") {
            &b"\n"[..]
        } else {
            &b""[..]
        };
        let content = line[..line.len() - end.len()].trim_ascii_end();
        match content.strip_suffix(b"=") {
            Some(soft) => out.extend_from_slice(&hex_escapes(soft)),
            None => {
                out.extend_from_slice(&hex_escapes(content));
                out.extend_from_slice(end);
            }
        }
    }
    out
}

/// Replaces `=XX`; an `=` without two hexadecimal digits behind it stays.
pub fn hex_escapes(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'=', &input[at..]) {
        out.extend_from_slice(&input[at..at + found]);
        at += found;
        let digit = |n: usize| input.get(at + n).and_then(|byte| char::from(*byte).to_digit(16));
        match (digit(1), digit(2)) {
            (Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(b'=');
                at += 1;
            }
        }
    }
    out.extend_from_slice(&input[at..]);
    out
}

/// Decodes a text whose charset was declared, or not. A declaration that the bytes belie does not count.
pub fn decode(bytes: &[u8], charset: Option<&str>) -> String {
    let label = charset.map(|label| label.trim().trim_matches(['"', '\''])).unwrap_or_default();
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding != UTF_8 && !claims_ascii(label) => encoding.decode(bytes).0.into_owned(),
        Some(_) => utf8_or_guess(bytes).into_owned(),
        // The WHATWG names leave out UTF-7 and some others that mail-parser knows.
        None => match charset_decoder(label.to_ascii_lowercase().as_bytes()) {
            Some(decoder) if !label.is_empty() => decoder(bytes),
            _ => utf8_or_guess(bytes).into_owned(),
        },
    }
}

/// Decodes the value of a header field: it is ASCII or UTF-8 (RFC 6532), or 8-bit text of a charset to be guessed.
pub fn decode_header(bytes: &[u8]) -> Cow<'_, str> {
    utf8_or_guess(bytes)
}

fn claims_ascii(label: &str) -> bool {
    ["us-ascii", "ascii", "ansi_x3.4-1968"].iter().any(|name| label.eq_ignore_ascii_case(name))
}

fn utf8_or_guess(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\u{1b}') => Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)),
        _ => guess(bytes).decode(bytes).0,
    }
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    // Long plain stretches say nothing: the guess begins with the line of the first 8-bit byte.
    let start = bytes.iter().position(|byte| !byte.is_ascii() || *byte == 0x1b).unwrap_or(0);
    let start = bytes[..start].iter().rposition(|byte| *byte == b'\n').map_or(0, |lf| lf + 1);
    let sample = &bytes[start..];
    detector.feed(&sample[..sample.len().min(GUESSED_BYTES)], true);
    // UTF-8 that is cut or spoilt in one place is still better read as UTF-8.
    let (valid, spoilt) = utf8_share(sample);
    if valid > 0 && valid >= spoilt * 8 { UTF_8 } else { detector.guess(None, Utf8Detection::Allow) }
}

/// How many multi-byte characters of UTF-8 there are, and how many bytes that are none.
fn utf8_share(bytes: &[u8]) -> (usize, usize) {
    let sample = &bytes[..bytes.len().min(GUESSED_BYTES)];
    sample.utf8_chunks().fold((0, 0), |(valid, spoilt), chunk| {
        let more = chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        (valid + more, spoilt + chunk.invalid().len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_encodings_take_what_is_broken() {
        let table: &[(&str, &[u8], &[u8])] = &[
            ("base64", b"aGFs\r\nbG8=\r\n", b"hallo"),
            ("BASE64", b"aGFsbG8", b"hallo"),
            ("base64", b"aGE=bGxv", b"hallo"),
            // What only the letter-by-letter reading takes: stray letters, bits left over, the other alphabet.
            ("base64", b"aG!Fs\r\n bG8", b"hallo"),
            ("base64", b"aGFsbG9=\r\n", b"hallo"),
            ("base64", b"_-__", b"\xff\xef\xff"),
            ("base64", b"=\r\n", b""),
            ("quoted-printable", b"a=\r\nb=3D=C3=BC =\n!=", b"ab=\xc3\xbc !"),
            ("quoted-printable", b"1=2 x=zz  \r\n", b"1=2 x=zz\r\n"),
            ("8bit", b"as=20is", b"as=20is"),
        ];
        for (encoding, input, want) in table {
            assert_eq!(TransferEncoding::from_value(encoding).decode(input).as_ref(), *want, "{encoding} {input:?}");
        }
    }

    #[test]
    fn charsets_are_believed_when_the_bytes_fit() {
        let table: &[(Option<&str>, &[u8], &str)] = &[
            (Some("utf-8"), "Grüße".as_bytes(), "Grüße"),
            (Some("iso-8859-1"), b"Gr\xfc\xdfe", "Grüße"),
            (Some("utf-8"), b"Sch\xf6ne Gr\xfc\xdfe aus M\xfcnchen", "Schöne Grüße aus München"),
            (None, b"Sch\xf6ne Gr\xfc\xdfe aus M\xfcnchen", "Schöne Grüße aus München"),
            (Some("us-ascii"), "für".as_bytes(), "für"),
            (Some("gb18030"), b"\xc4\xe3\xba\xc3", "你好"),
            (Some("utf-7"), b"Gr+APwA3w-e", "Grüße"),
            (Some("x-unknown"), "für".as_bytes(), "für"),
        ];
        for (charset, bytes, want) in table {
            assert_eq!(decode(bytes, *charset), *want, "{charset:?}");
        }
    }
}
