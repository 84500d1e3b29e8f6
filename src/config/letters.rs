//! What our mail looks like: `[brand]`, `[templates]`, and the reading of the template files.
//!
//! The files are read at the start and at every reload; a fault in one is a fault of the configuration.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Config;
use super::read::nearest;
use crate::mail::Address;
use crate::mail::compose::is_free_field;
use crate::ticket::letter::{Acknowledgement, Letters, Texts};
use crate::ticket::template::{MAX_TEMPLATE, Placeholder, Template, TemplateFault, Values, Wrong};

/// The acknowledgement of those who write none of their own.
const ACKNOWLEDGEMENT: &str = include_str!("../../config/templates/acknowledgement.txt");

/// Values that a field of `[brand]` may carry.
const FIELD_PLACEHOLDERS: &[&str] = &["{{account.id}}", "{{email.id}}"];

/// The most fields of one list, and the longest of them in bytes.
const MAX_FIELDS: usize = 30;
const MAX_FIELD: usize = 500;

/// `[brand]`: the header fields that mail of ours carries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Brand {
    /// On every mail that is written here, each `Name: value`.
    pub fields: Vec<String>,
    /// On acknowledgements and other automatic mail as well.
    pub automatic_fields: Vec<String>,
    /// Names of fields that mail which other programs hand in must not lose on its way either, where it brings them.
    pub must_survive: Vec<String>,
}

/// `[templates]`: texts for channels that have none of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Templates {
    pub signature: Option<PathBuf>,
    pub acknowledgement: Option<PathBuf>,
}

impl Default for Brand {
    fn default() -> Self {
        let own = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect();
        Self {
            fields: own(&[
                "X-Auto-Response-Suppress: All",
                "X-Mailer: Ticketgate Mailer",
                "X-Ticketgate-From-Account-Id: {{account.id}}",
                "X-Ticketgate-Email-Id: {{email.id}}",
            ]),
            automatic_fields: own(&["Auto-Submitted: auto-generated"]),
            must_survive: own(&["X-Zendesk-From-Account-Id", "X-Zendesk-Email-Id"]),
        }
    }
}

/// How a template file is read.
type Reading = fn(&Path, &[&str], &mut Vec<LetterFault>) -> Option<Template>;

/// Something that is wrong, at a path such as `["channel", "0", "signature"]`.
pub(super) struct LetterFault {
    pub path: Vec<String>,
    pub wrong: String,
    pub advice: String,
}

/// Reads what our mail looks like; all faults at once.
pub(super) fn letters(config: &Config) -> Result<Letters, Vec<LetterFault>> {
    let mut faults = Vec::new();
    let fields = fields("fields", &config.brand.fields, &mut faults);
    let automatic_fields = self::fields("automatic_fields", &config.brand.automatic_fields, &mut faults);
    names(&config.brand.must_survive, &mut faults);
    let mut file = |path: &Option<PathBuf>, at: &[&str], read: Reading| {
        let path = path.as_ref()?;
        read(path, at, &mut faults)
    };
    let default = Texts {
        signature: file(&config.templates.signature, &["templates", "signature"], read),
        acknowledgement: match &config.templates.acknowledgement {
            None => Template::parse(ACKNOWLEDGEMENT).ok(),
            path => file(path, &["templates", "acknowledgement"], read_acknowledgement),
        },
    };
    let must_survive = config.brand.must_survive.clone();
    let mut letters = Letters { fields, automatic_fields, must_survive, default, ..Letters::default() };
    for (index, channel) in config.channels.iter().enumerate() {
        let at = index.to_string();
        let signature = file(&channel.signature, &["channel", &at, "signature"], read);
        let path = ["channel", &at, "acknowledgement"];
        let acknowledgement = file(&channel.acknowledgement, &path, read_acknowledgement);
        if let Ok(address) = Address::parse(&channel.address) {
            letters.by_channel.insert(address.key(), Texts { signature, acknowledgement });
        }
    }
    if faults.is_empty() { Ok(letters) } else { Err(faults) }
}

/// The fields of a list, each taken apart.
fn fields(key: &str, list: &[String], faults: &mut Vec<LetterFault>) -> Vec<(String, String)> {
    let mut wrong = |wrong: String, advice: &str| {
        faults.push(LetterFault { path: vec!["brand".into(), key.into()], wrong, advice: advice.into() });
    };
    if list.len() > MAX_FIELDS {
        wrong(format!("{} fields are too many", list.len()), &format!("write {MAX_FIELDS} at most"));
    }
    let mut read = Vec::new();
    for field in list {
        let Some((name, value)) = field.split_once(':').map(|(name, value)| (name, value.trim())) else {
            wrong(format!("\"{field}\" is not a header field"), "write it as \"Name: value\"");
            continue;
        };
        if !is_free_field(name) {
            wrong(format!("\"{name}\" cannot be a field here"), "the mail itself sets it, or it is not a name");
        } else if value.is_empty() || field.len() > MAX_FIELD || value.chars().any(char::is_control) {
            let limit = format!("write 1 to {MAX_FIELD} bytes without control characters");
            wrong(format!("the value of \"{name}\" cannot be sent"), &limit);
        } else if let Some(unknown) = unknown_placeholder(value) {
            let known = FIELD_PLACEHOLDERS.join(" and ");
            wrong(format!("\"{unknown}\" is no placeholder here"), &format!("known here are {known}"));
        }
        read.push((name.to_owned(), value.to_owned()));
    }
    read
}

/// What is wrong with a list of names of fields.
fn names(list: &[String], faults: &mut Vec<LetterFault>) {
    let mut wrong = |wrong: String, advice: &str| {
        let path = vec!["brand".into(), "must_survive".into()];
        faults.push(LetterFault { path, wrong, advice: advice.into() });
    };
    if list.len() > MAX_FIELDS {
        wrong(format!("{} names are too many", list.len()), &format!("write {MAX_FIELDS} at most"));
    }
    for name in list.iter().filter(|name| !is_free_field(name)) {
        wrong(format!("\"{name}\" cannot be a field here"), "the mail itself sets it, or it is not a name");
    }
}

fn unknown_placeholder(value: &str) -> Option<String> {
    let rest = FIELD_PLACEHOLDERS.iter().fold(value.to_owned(), |rest, known| rest.replace(known, ""));
    let at = rest.find("{{")?;
    let from = &rest[at..];
    Some(from.find("}}").map_or(from, |end| &from[..end + 2]).to_owned())
}

fn read(path: &Path, at: &[&str], faults: &mut Vec<LetterFault>) -> Option<Template> {
    let mut add = |wrong: String, advice: String| {
        let path = at.iter().map(|part| (*part).to_owned()).collect();
        faults.push(LetterFault { path, wrong, advice });
    };
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) => {
            let wrong = format!("{} cannot be read ({error})", path.display());
            add(wrong, "name a text file in UTF-8 that the daemon may read".into());
            return None;
        }
    };
    match Template::parse(&text) {
        Ok(template) => Some(template),
        Err(found) => {
            for TemplateFault { line, wrong } in found {
                let (wrong, advice) = explain(&wrong);
                add(format!("{}:{line}: {wrong}", path.display()), advice);
            }
            None
        }
    }
}

/// Reads a template of acknowledgements, which must say something besides a subject.
fn read_acknowledgement(path: &Path, at: &[&str], faults: &mut Vec<LetterFault>) -> Option<Template> {
    let template = read(path, at, faults)?;
    if !Acknowledgement::of(&template, &Values::sample()).text.trim().is_empty() {
        return Some(template);
    }
    faults.push(LetterFault {
        path: at.iter().map(|part| (*part).to_owned()).collect(),
        wrong: format!("{} has no text to send", path.display()),
        advice: "write one, below \"Subject: …\" and an empty line".into(),
    });
    None
}

/// The text of a file, but no more of it than a template may have.
fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_TEMPLATE as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn explain(wrong: &Wrong) -> (String, String) {
    match wrong {
        Wrong::Unknown(name) => {
            let known = || Placeholder::ALL.iter().map(|(name, _)| *name);
            let advice = match nearest(name, known()) {
                Some(near) => format!("did you mean {{{{{near}}}}}?"),
                None => format!("known are {}", known().collect::<Vec<_>>().join(", ")),
            };
            (format!("there is no placeholder {{{{{name}}}}}"), advice)
        }
        Wrong::NotClosed => ("\"{{\" has no \"}}\" on its line".into(), "close the placeholder".into()),
        Wrong::TooLong => (format!("it is longer than {MAX_TEMPLATE} bytes"), "shorten it".into()),
    }
}
