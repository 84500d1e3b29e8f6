//! From text to `Config`, with all faults at once.
//!
//! The reader of TOML stops at the first fault. So each fault is noted, the key that it is about is blanked out, and
//! the text is read again, until it is clean. Blanks keep every other key on its line.

use std::io::ErrorKind;
use std::path::Path;

use super::Config;
use super::fault::Fault;
use super::places::Places;
use crate::files;
use crate::units::show_bytes;

/// No configuration is larger.
const MAX_FILE: u64 = 4 << 20;

/// No file has more faults than this that are worth telling at once.
const MAX_FAULTS: usize = 100;

/// Names that are less alike than this are no suggestion.
const ALIKE: f64 = 0.6;

/// What a text says, where it says it, and what is wrong with it. Keys with faults have their default.
pub(super) struct Reading {
    pub config: Config,
    pub places: Places,
    pub faults: Vec<Fault>,
}

/// The text of a file.
pub(super) fn text(file: &Path) -> Result<String, Fault> {
    let wrong = |line, said: &str, advice: &str| Fault::new(line, "file", said, advice);
    let bytes = files::read(file, MAX_FILE).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => {
            let said = format!("it is larger than {}", show_bytes(MAX_FILE));
            wrong(None, &said, "name the configuration, a text file")
        }
        _ => wrong(None, &format!("it cannot be read ({error})"), "check the path and its permissions"),
    })?;
    std::str::from_utf8(&bytes).map(str::to_owned).map_err(|error| {
        let sound = &bytes[..error.valid_up_to()];
        let line = sound.iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(Some(line), "it is not text in UTF-8 here", "save the file as UTF-8")
    })
}

/// Reads a text.
pub(super) fn read(text: &str) -> Reading {
    let places = Places::of(text);
    let mut faults = Vec::new();
    let mut rest = text.to_owned();
    for _ in 0..MAX_FAULTS {
        let error = match toml::from_str::<Config>(&rest) {
            Ok(config) => return Reading { config, places, faults },
            Err(error) => error,
        };
        let offset = error.span().map(|span| span.start);
        let place = offset.and_then(|offset| places.around(offset));
        let path = place.map(|place| place.path.clone()).unwrap_or_default();
        let line = offset.map(|offset| places.line_at(offset));
        let written = error.span().and_then(|span| rest.get(span)).unwrap_or_default();
        let fault = explain(error.message(), written, &path, line);
        let Some(place) = place else {
            faults.push(fault);
            break;
        };
        let extent = places.extent(place);
        // A key that was blanked out for its value is missing from its section now, and that was told already.
        let section = places.line_at(extent.start)..=places.line_at(extent.end);
        let told = |earlier: &Fault| {
            let missing =
                fault.said.starts_with("missing field") && fault.said.contains(&format!("`{}`", last(&earlier.field)));
            missing && earlier.line.is_some_and(|line| section.contains(&line))
        };
        if !faults.iter().any(told) {
            faults.push(fault);
        }
        let before = rest.clone();
        blank(&mut rest, extent);
        if rest == before {
            break;
        }
    }
    Reading { config: Config::default(), places, faults }
}

/// The first of a list of words that is alike enough to `word`.
pub(super) fn nearest<'a>(word: &str, list: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = list.into_iter().map(|known| (strsim::normalized_damerau_levenshtein(word, known), known));
    let best = scored.max_by(|left, right| left.0.total_cmp(&right.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}

/// The advice about a name that is not in a list: the one that is alike, or else what to do.
pub(super) fn meant<'a>(name: &str, list: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    nearest(name, list).map_or_else(|| otherwise.to_owned(), |near| format!("did you mean \"{near}\"?"))
}

/// The key of a field such as `smtp.listeners.bind`.
fn last(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

/// Puts spaces in place of a stretch of text and keeps its line breaks.
fn blank(text: &mut String, extent: std::ops::Range<usize>) {
    let blanks: String = text[extent.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(extent, &blanks);
}

/// Words between backticks.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// What the reader of TOML expects, for people who do not know its types.
fn in_words(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" => "a whole number that is not negative, without quotes",
        "u16" => "a whole number, 0 to 65535, without quotes",
        "u8" => "a whole number, 0 to 255, without quotes",
        "a tuple of size 2" => "a pair in square brackets, such as [10, 30]",
        "a string" | "path string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list in square brackets",
        other => other,
    }
}

/// What the parsers of addresses say, which name neither the value nor what they want.
const SYNTAX: &[(&str, &str, &str)] = &[
    (
        "invalid socket address syntax",
        "is not an address with a port",
        "write it as \"192.0.2.1:25\" or \"[2001:db8::1]:25\", without a name",
    ),
    (
        "invalid IP address syntax",
        "is not a network",
        "write it as \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.1/32\"",
    ),
];

/// The most of a value that is repeated.
const SHOWN: usize = 60;

/// Says in operators' words what the reader found; `written` is the value as it stands in the file.
fn explain(message: &str, written: &str, path: &[String], line: Option<usize>) -> Fault {
    let message = message.trim().replace('\n', ", ");
    let words = quoted(&message);
    let named = |path: &[String]| {
        let shown: Vec<&str> = path.iter().map(String::as_str).filter(|part| part.parse::<usize>().is_err()).collect();
        if shown.is_empty() { "file".to_owned() } else { shown.join(".") }
    };
    if let (true, Some((unknown, known))) = (message.starts_with("unknown field"), words.split_first()) {
        let depth = path.iter().position(|part| part == unknown);
        let mut path: Vec<String> = path[..depth.unwrap_or(path.len())].to_vec();
        path.push((*unknown).to_owned());
        let advice = match nearest(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if known.is_empty() => "take it out".into(),
            None => format!("known here are {}", known.join(", ")),
        };
        return Fault::new(line, &named(&path), "unknown key", &advice);
    }
    if let (true, Some((unknown, known))) = (message.starts_with("unknown variant"), words.split_first()) {
        let advice = match nearest(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? Known are {}", known.join(", ")),
            None => format!("write one of {}", known.join(", ")),
        };
        return Fault::new(line, &named(path), &format!("\"{unknown}\" is not known"), &advice);
    }
    if let Some((wrong, expected)) = message.split_once(", expected ") {
        let wrong = wrong.replace("invalid type: ", "the wrong kind of value: ").replace("invalid value: ", "");
        // An integer of the right kind that does not fit.
        let wrong = match wrong.strip_prefix("integer ") {
            Some(number) => format!("{} is out of range", number.trim_matches('`')),
            None => wrong,
        };
        return Fault::new(line, &named(path), &wrong, &format!("write {}", in_words(expected)));
    }
    if let Some((_, wrong, advice)) = SYNTAX.iter().find(|(said, ..)| message == *said) {
        let value: String = written.chars().take_while(|c| *c != '\n').take(SHOWN).collect();
        return Fault::new(line, &named(path), format!("{value} {wrong}").trim_start(), advice);
    }
    if message.contains("; ") {
        return Fault { line, field: named(path), said: message };
    }
    Fault::new(line, &named(path), &message, "correct this line")
}
