//! Templates of what our mail says: plain text with placeholders such as `{{ticket.number}}`.
//!
//! A template is checked when it is read, so that rendering cannot fail. Values go in as text and are never read as
//! templates again. Must not know: files, which template is used where.

/// The largest template, in bytes.
pub const MAX_TEMPLATE: usize = 64 << 10;

/// The longest value that is put in for a placeholder, in characters: a title may be long, a letter must not be.
const MAX_VALUE: usize = 500;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    TicketNumber,
    TicketTitle,
    TicketReplyAddress,
    ChannelName,
    ChannelAddress,
    QueueName,
    RequesterName,
    RequesterAddress,
    AuthorName,
}

impl Placeholder {
    /// Every placeholder with its name in a template.
    pub const ALL: &[(&str, Self)] = &[
        ("ticket.number", Self::TicketNumber),
        ("ticket.title", Self::TicketTitle),
        ("ticket.reply_address", Self::TicketReplyAddress),
        ("channel.name", Self::ChannelName),
        ("channel.address", Self::ChannelAddress),
        ("queue.name", Self::QueueName),
        ("requester.name", Self::RequesterName),
        ("requester.address", Self::RequesterAddress),
        ("author.name", Self::AuthorName),
    ];
}

/// What the placeholders of one mail stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    pub ticket_number: u64,
    pub ticket_title: String,
    pub ticket_reply_address: String,
    pub channel_name: String,
    pub channel_address: String,
    pub queue_name: String,
    /// Without a name, the address.
    pub requester_name: String,
    pub requester_address: String,
    /// Who writes; of automatic mail the name of the channel.
    pub author_name: String,
}

impl Values {
    /// Something for every placeholder, to see what a template says.
    pub fn sample() -> Self {
        let text = || "x".to_owned();
        Self {
            ticket_number: 1,
            ticket_title: text(),
            ticket_reply_address: text(),
            channel_name: text(),
            channel_address: text(),
            queue_name: text(),
            requester_name: text(),
            requester_address: text(),
            author_name: text(),
        }
    }

    fn of(&self, placeholder: Placeholder) -> String {
        let text = match placeholder {
            Placeholder::TicketNumber => return self.ticket_number.to_string(),
            Placeholder::TicketTitle => &self.ticket_title,
            Placeholder::TicketReplyAddress => &self.ticket_reply_address,
            Placeholder::ChannelName => &self.channel_name,
            Placeholder::ChannelAddress => &self.channel_address,
            Placeholder::QueueName => &self.queue_name,
            Placeholder::RequesterName => &self.requester_name,
            Placeholder::RequesterAddress => &self.requester_address,
            Placeholder::AuthorName => &self.author_name,
        };
        // Titles and names come from strangers: they fill their place and no other.
        text.chars().take(MAX_VALUE).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// A template that was read without a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

/// What is wrong in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFault {
    /// Counted from one.
    pub line: usize,
    pub wrong: Wrong,
}

/// The kinds of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No placeholder has this name.
    Unknown(String),
    /// `{{` without `}}` on its line.
    NotClosed,
    TooLong,
}

impl Template {
    /// Reads a template; all its faults at once.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateFault>> {
        if text.len() > MAX_TEMPLATE {
            return Err(vec![TemplateFault { line: 1, wrong: Wrong::TooLong }]);
        }
        let mut pieces = Vec::new();
        let mut faults = Vec::new();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let mut rest = line;
            while let Some((before, from)) = rest.split_once("{{") {
                pieces.push(Piece::Text(before.to_owned()));
                let Some((name, after)) = from.split_once("}}") else {
                    faults.push(TemplateFault { line: index + 1, wrong: Wrong::NotClosed });
                    rest = "";
                    break;
                };
                match Placeholder::ALL.iter().find(|(known, _)| *known == name.trim()) {
                    Some((_, placeholder)) => pieces.push(Piece::Value(*placeholder)),
                    None => {
                        let wrong = Wrong::Unknown(name.trim().to_owned());
                        faults.push(TemplateFault { line: index + 1, wrong });
                    }
                }
                rest = after;
            }
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if faults.is_empty() { Ok(Self(pieces)) } else { Err(faults) }
    }

    /// The text with values in the place of the placeholders.
    pub fn render(&self, values: &Values) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(placeholder) => values.of(*placeholder),
        };
        self.0.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_and_values_are_no_templates() {
        let values = Values {
            ticket_number: 12,
            ticket_title: "{{author.name}}\r\nBcc: x".into(),
            author_name: "Eve".into(),
            ..Values::default()
        };
        let table = [
            ("", ""),
            ("No placeholder }} here", "No placeholder }} here"),
            ("{{ticket.number}}: {{ ticket.title }}.\n{{author.name}}", "12: {{author.name}}  Bcc: x.\nEve"),
        ];
        for (text, want) in table {
            assert_eq!(Template::parse(text).unwrap().render(&values), want, "{text}");
        }
        let all: String = Placeholder::ALL.iter().map(|(name, _)| format!("{{{{{name}}}}}\n")).collect();
        assert_eq!(Template::parse(&all).unwrap().render(&Values::default()).lines().count(), Placeholder::ALL.len());
    }

    #[test]
    fn all_faults_are_told_with_their_lines() {
        let faults = Template::parse("{{ticket.nmber}}\n\n{{x}} {{ticket.title\n{{}}").unwrap_err();
        let want = [
            (1, Wrong::Unknown("ticket.nmber".into())),
            (3, Wrong::Unknown("x".into())),
            (3, Wrong::NotClosed),
            (4, Wrong::Unknown(String::new())),
        ];
        assert_eq!(faults, want.map(|(line, wrong)| TemplateFault { line, wrong }));
        let long = "x".repeat(MAX_TEMPLATE + 1);
        assert_eq!(Template::parse(&long).unwrap_err()[0].wrong, Wrong::TooLong);
    }
}
