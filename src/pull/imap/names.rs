//! Where a folder lies. People write its name as they see it; servers such as Courier, and many of Cyrus and Dovecot,
//! have all folders of a person below the inbox, or below a name that NAMESPACE tells (RFC 2342).
//!
//! A folder that is there under the name as it is written is that one. Only one that is not there is looked for
//! elsewhere, for a folder that somebody else has open, or that the server cannot open just now, is no reason to take
//! another. What is made, is made in the person's own namespace.

use async_imap::imap_proto::{MailboxDatum, NameAttribute, Response};

use super::wire::quoted;
use super::{Folder, ImapError, Mailbox};
use crate::accounts::{Absence, absence, holds_for_all};

/// What is to be done with a folder, whatever its name turns out to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed<'a> {
    /// Open it.
    Open,
    /// Open it, and make it if it is not there.
    OpenOrMake,
    /// Move mails of the open folder there.
    MoveTo(&'a [u32]),
}

/// A name that a folder may have, in modified UTF-7 as everything here that is a name on the server: what servers send
/// in that form need not be right, and is never decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    text: String,
    /// It is a place where folders of ours are made.
    ours: bool,
}

/// One namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Space {
    prefix: String,
    delimiter: Option<String>,
}

/// What NAMESPACE tells: the person's own namespaces, those of other people, and shared ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespaces([Vec<Space>; 3]);

impl Mailbox {
    /// Does something with a folder under the first of its possible names that is there. The name that was found is
    /// remembered for as long as the connection lasts. Where it has none of them, the error is about the first.
    pub(super) async fn at_its_name(&mut self, folder: &str, deed: Deed<'_>) -> Result<Option<Folder>, ImapError> {
        // People know the folder by the name that they wrote.
        let told = |error| match error {
            ImapError::NoFolder { command, said, .. } => {
                ImapError::NoFolder { folder: folder.to_owned(), command, said }
            }
            other => other,
        };
        if let Some(known) = self.known_names.get(folder).cloned() {
            return self.carry_out(&Name { text: known, ours: true }, deed).await.map_err(told);
        }
        let (written, mut absent) = (encoded(folder)?, None);
        for nth in 0..2 {
            let Some(name) = self.name(&written, nth).await? else { break };
            match self.carry_out(&name, deed).await {
                Err(missing @ ImapError::NoFolder { .. }) => drop(absent.get_or_insert(missing)),
                Err(other) => return Err(other),
                Ok(done) => {
                    self.known_names.insert(folder.to_owned(), name.text);
                    return Ok(done);
                }
            }
        }
        Err(absent.map_or_else(|| no_name(folder), told))
    }

    /// The same for a deed that opens the folder.
    pub(super) async fn opened(&mut self, folder: &str, deed: Deed<'_>) -> Result<Folder, ImapError> {
        let opened = self.at_its_name(folder, deed).await?;
        opened.ok_or_else(|| ImapError::Protocol("the folder was not opened".into()))
    }

    async fn carry_out(&mut self, name: &Name, deed: Deed<'_>) -> Result<Option<Folder>, ImapError> {
        match deed {
            Deed::Open => self.open_folder(&name.text).await.map(Some),
            Deed::MoveTo(uids) => self.move_into(uids, &name.text).await.map(|()| None),
            Deed::OpenOrMake => match self.open_folder(&name.text).await {
                Err(ImapError::NoFolder { .. }) if name.ours => {
                    self.make(&name.text).await?;
                    self.open_folder(&name.text).await.map(Some)
                }
                other => other.map(Some),
            },
        }
    }

    /// Makes a folder. A refusal that is not about the whole account means that it is not made under this name.
    async fn make(&mut self, name: &str) -> Result<(), ImapError> {
        let text = format!("CREATE {}", argument(name)?);
        match self.wire.command("CREATE", &text, |_| {}).await {
            Err(ImapError::Refused { command, said }) if !holds_for_all(&said) => {
                Err(ImapError::NoFolder { folder: name.to_owned(), command, said })
            }
            other => other.map(drop),
        }
    }

    /// Tells a refusal that is about a missing folder from one that is about anything else: by the server's words, and
    /// where these say nothing known, by asking whether the folder is there.
    pub(super) async fn absent(&mut self, name: &str, error: ImapError) -> ImapError {
        let ImapError::Refused { command, said } = error else { return error };
        let absent = match absence(&said) {
            Absence::Told => true,
            Absence::Excluded => false,
            Absence::Unknown => match self.is_listed(name).await {
                Ok(listed) => !listed,
                // A server that does not list either says nothing of this folder.
                Err(ImapError::Refused { .. }) => false,
                Err(other) => return other,
            },
        };
        match absent {
            true => ImapError::NoFolder { folder: name.to_owned(), command, said },
            false => ImapError::Refused { command, said },
        }
    }

    /// Whether LIST knows a folder that can be opened under this name.
    async fn is_listed(&mut self, name: &str) -> Result<bool, ImapError> {
        let (wanted, mut listed) = (argument(name)?, false);
        let look = |response: &Response<'_>| {
            let Response::MailboxData(MailboxDatum::List(list)) = response else { return };
            let nothing = |one: &NameAttribute<'_>| match one {
                NameAttribute::NoSelect => true,
                NameAttribute::Extension(word) => word.eq_ignore_ascii_case("\\NonExistent"),
                _ => false,
            };
            // A name may hold what LIST takes for a wildcard.
            listed |= same_folder(&unescaped(&list.name), name) && !list.name_attributes.iter().any(nothing);
        };
        self.wire.command("LIST", &format!("LIST \"\" {wanted}"), look).await?;
        Ok(listed)
    }

    /// The first or second name that a folder may have.
    async fn name(&mut self, folder: &str, nth: usize) -> Result<Option<Name>, ImapError> {
        if is_inbox(folder) {
            return Ok((nth == 0).then(|| Name { text: folder.to_owned(), ours: false }));
        }
        let own = match self.namespaces().await? {
            Some(spaces) => spaces.own(folder),
            None if nth == 0 => None,
            None => self.below_inbox(folder).await?,
        };
        let told = self.namespaces.as_ref().is_some_and(Option::is_some);
        Ok(match nth {
            // Where the person's own folders are known to lie elsewhere, this place is somebody else's.
            0 => Some(Name { text: folder.to_owned(), ours: !(told && own.is_some()) }),
            _ => own.map(|text| Name { text, ours: true }),
        })
    }

    /// What the server tells of its namespaces; `None` where it does not know the command, or not readably.
    async fn namespaces(&mut self) -> Result<Option<&Namespaces>, ImapError> {
        if self.namespaces.is_none() {
            let told = match self.offers("NAMESPACE") {
                false => None,
                true => match self.wire.ask("NAMESPACE").await {
                    Ok(frames) => frames.iter().find_map(|frame| Namespaces::read(frame)),
                    Err(ImapError::Refused { .. }) => None,
                    Err(other) => return Err(other),
                },
            };
            self.namespaces = Some(told);
        }
        Ok(self.namespaces.as_ref().and_then(Option::as_ref))
    }

    /// The name of a folder below the inbox, for servers that do not tell their namespaces. `None` where it lies there
    /// already, or the server does not tell what separates names.
    async fn below_inbox(&mut self, folder: &str) -> Result<Option<String>, ImapError> {
        let mut separator = None;
        let look = |response: &Response<'_>| {
            if let Response::MailboxData(MailboxDatum::List(list)) = response {
                separator = list.delimiter.as_deref().map(unescaped);
            }
        };
        match self.wire.command("LIST", "LIST \"\" INBOX", look).await {
            Ok(_) | Err(ImapError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let graphic = |one: &String| !one.is_empty() && one.bytes().all(|byte| byte.is_ascii_graphic());
        let space = separator.filter(graphic).map(|between| Space { prefix: "INBOX".into(), delimiter: Some(between) });
        Ok(space.and_then(|space| Namespaces([vec![space], Vec::new(), Vec::new()]).own(folder)))
    }
}

impl Namespaces {
    /// Reads `* NAMESPACE (("INBOX." ".")) NIL NIL`; `None` for what is not that.
    fn read(frame: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(frame).ok()?;
        let mut rest = text.get("* NAMESPACE".len()..)?.trim_start();
        let (mut found, mut class, mut depth) = (Self::default(), 0, 0);
        let mut words: Vec<Option<String>> = Vec::new();
        while let Some(first) = rest.chars().next() {
            match first {
                '(' => depth += 1,
                ')' => {
                    depth = usize::checked_sub(depth, 1)?;
                    if depth == 1 {
                        let mut told = std::mem::take(&mut words).into_iter();
                        found.0.get_mut(class)?.push(Space { prefix: told.next()??, delimiter: told.next()? });
                    }
                    class += usize::from(depth == 0);
                }
                _ => {
                    let (word, behind) = string(rest)?;
                    match depth {
                        0 if word.is_none() => class += 1,
                        // What stands deeper, or behind the two, is an extension.
                        2 if words.len() < 2 => words.push(word),
                        0 | 1 => return None,
                        _ => {}
                    }
                    rest = behind.trim_start();
                    continue;
                }
            }
            rest = rest[1..].trim_start();
        }
        (class == 3 && depth == 0).then_some(found)
    }

    /// The name of a folder in the person's own namespace; `None` where it lies in a namespace as it is written.
    fn own(&self, folder: &str) -> Option<String> {
        let prefix = self.0.first()?.first()?.whole_prefix();
        let mut known = self.0.iter().flatten().map(Space::whole_prefix).filter(|prefix| !prefix.is_empty());
        (!prefix.is_empty() && !known.any(|prefix| begins(folder, &prefix))).then(|| format!("{prefix}{folder}"))
    }
}

impl Space {
    /// The prefix with what separates it from a name; some servers leave that out.
    fn whole_prefix(&self) -> String {
        let between = self.delimiter.as_deref().unwrap_or_default();
        let ends = self.prefix.is_empty() || self.prefix.ends_with(between);
        if ends { self.prefix.clone() } else { format!("{}{between}", self.prefix) }
    }
}

/// Whether a name lies below a prefix; INBOX has no case (RFC 3501 section 5.1).
fn begins(name: &str, prefix: &str) -> bool {
    let same = |part: &str| {
        let inbox = prefix.get(..5).is_some_and(is_inbox);
        part == prefix || inbox && part.eq_ignore_ascii_case(prefix)
    };
    name.get(..prefix.len()).is_some_and(same)
}

/// Whether two names are of one folder; only INBOX has no case (RFC 3501 section 5.1).
pub fn same_folder(one: &str, other: &str) -> bool {
    one == other || is_inbox(one) && is_inbox(other)
}

fn is_inbox(name: &str) -> bool {
    name.eq_ignore_ascii_case("INBOX")
}

/// A quoted string, a literal or NIL at the beginning of a text, and what stands behind it.
fn string(text: &str) -> Option<(Option<String>, &str)> {
    if text.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("NIL")) {
        return Some((None, &text[3..]));
    }
    if let Some(literal) = text.strip_prefix('{') {
        let (size, bytes) = literal.split_once("}\r\n")?;
        let size: usize = size.parse().ok()?;
        return Some((Some(bytes.get(..size)?.to_owned()), bytes.get(size..)?));
    }
    let quoted = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = quoted.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((Some(unescaped(&quoted[..end])), &quoted[end + 1..]))
}

/// What a quoted string means; the parser leaves the backslashes in.
fn unescaped(text: &str) -> String {
    let (mut plain, mut escaped) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            plain.push(c);
        }
    }
    plain
}

/// A folder's name in modified UTF-7 (RFC 3501 section 5.1.3).
pub(super) fn encoded(folder: &str) -> Result<String, ImapError> {
    let name = utf7_imap::encode_utf7_imap(folder.to_owned());
    if quoted(&name).is_some() { Ok(name) } else { Err(no_name(folder)) }
}

/// A name as a command holds it.
pub(super) fn argument(name: &str) -> Result<String, ImapError> {
    quoted(name).ok_or_else(|| no_name(name))
}

fn no_name(folder: &str) -> ImapError {
    ImapError::Protocol(format!("\"{folder}\" is no name of a folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_the_protocol_wants() {
        let name = |folder: &str| argument(&encoded(folder)?);
        assert_eq!(name("Entwürfe & \"x\"").unwrap(), "\"Entw&APw-rfe &- \\\"x\\\"\"");
        assert!(name("a\r\nb").is_err() || !name("a\r\nb").unwrap().contains('\n'));
        assert_eq!(unescaped("a\\\\b\\\"c"), "a\\b\"c");
    }

    #[test]
    fn namespaces_are_read_and_names_are_put_into_ones_own() {
        let courier = "* NAMESPACE ((\"INBOX.\" \".\")) NIL ((\"#shared.\" \".\")(\"shared.\" \".\"))\r\n";
        let cyrus = "* NAMESPACE ((\"INBOX.\" \".\")) ((\"user.\" \".\")) ((\"\" \".\"))\r\n";
        let extended = "* namespace ((\"\" \"/\")(\"#mh/\" \"/\" \"X-PARAM\" (\"FLAG1\" \"FLAG2\"))) nil nil\r\n";
        let table = [
            (courier, "Done", Some("INBOX.Done")),
            (courier, "inbox.Done", None),
            (courier, "shared.Done", None),
            (courier, "#shared.Done", None),
            (cyrus, "Done", Some("INBOX.Done")),
            (cyrus, "user.anna", None),
            (extended, "Done", None),
            ("* NAMESPACE ((\"Mail\" \"/\")) NIL NIL\r\n", "Done", Some("Mail/Done")),
            ("* NAMESPACE ((\"mail/\" \"/\")) NIL NIL\r\n", "Mail/x", Some("mail/Mail/x")),
            ("* NAMESPACE ((\"&AOQ-/\" \"/\")) NIL NIL\r\n", "Done", Some("&AOQ-/Done")),
            ("* NAMESPACE ((\"&AOQ-/\" \"/\")) NIL NIL\r\n", "ä/Done", None),
            ("* NAMESPACE ((\"a\\\\\" \"\\\\\")) NIL NIL\r\n", "Done", Some("a\\Done")),
            ("* NAMESPACE (({6}\r\nINBOX. \".\")) NIL NIL\r\n", "Done", Some("INBOX.Done")),
            ("* NAMESPACE ((\"\" NIL)) NIL NIL\r\n", "Done", None),
            ("* NAMESPACE NIL NIL NIL\r\n", "Done", None),
        ];
        for (frame, folder, want) in table {
            let read = Namespaces::read(frame.as_bytes());
            assert_eq!(read.expect(frame).own(&encoded(folder).unwrap()).as_deref(), want, "{frame}");
        }
        for wrong in ["", "(", "((\"a\"))", "NIL NIL", "((\"a\" \".\")) NIL", "((NIL \".\")) NIL NIL", ") NIL NIL NIL"]
        {
            assert_eq!(Namespaces::read(format!("* NAMESPACE {wrong}\r\n").as_bytes()), None, "{wrong}");
        }
    }
}
