//! Where in the text of a configuration each key stands.

use std::ops::Range;

use toml_edit::{Document, Item, Table, Value};

/// One key with its section, and the text that it takes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Such as `["channel", "0", "address"]`.
    pub path: Vec<String>,
    /// From the key to the end of its value; of a section only the header.
    pub range: Range<usize>,
    /// Whether it is the header of a section.
    pub header: bool,
}

/// All keys of a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    line_starts: Vec<usize>,
    length: usize,
}

impl Places {
    /// Reads the places of a text; of one that is not TOML there are only the lines.
    pub fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        let mut places = Vec::new();
        if let Ok(document) = Document::parse(text) {
            table_places(document.as_table(), &mut Vec::new(), &mut places);
        }
        Self { places, line_starts, length: text.len() }
    }

    /// The line, counted from one, that an offset lies in.
    pub fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// The line of a key such as `["channel", "0", "address"]`, or of the nearest section around it.
    pub fn line_of(&self, path: &[&str]) -> Option<usize> {
        (1..=path.len()).rev().find_map(|length| {
            let place = self
                .places
                .iter()
                .find(|place| place.path.iter().map(String::as_str).eq(path[..length].iter().copied()));
            place.map(|place| self.line_at(place.range.start))
        })
    }

    /// The smallest place around an offset: a key with its value before a section's header.
    pub fn around(&self, offset: usize) -> Option<&Place> {
        let holds = |place: &&Place| place.range.start <= offset && offset < place.range.end.max(place.range.start + 1);
        self.places.iter().filter(holds).min_by_key(|place| place.range.len())
    }

    /// The text that goes when a place is taken out: the key with its value, or the section up to the next header.
    pub fn extent(&self, place: &Place) -> Range<usize> {
        if !place.header {
            return place.range.clone();
        }
        let later = self.places.iter().filter(|other| other.header && other.range.start > place.range.start);
        place.range.start..later.map(|other| other.range.start).min().unwrap_or(self.length)
    }
}

fn table_places(table: &Table, path: &mut Vec<String>, places: &mut Vec<Place>) {
    for (name, item) in table.iter() {
        path.push(name.to_owned());
        let key = table.key(name).and_then(|key| key.span());
        match item {
            Item::Value(value) => {
                let range = key.zip(value.span()).map(|(key, value)| key.start..value.end);
                places.extend(range.map(|range| Place { path: path.clone(), range, header: false }));
                inline_places(value, path, places);
            }
            Item::Table(inner) => {
                places.extend(header_place(inner, path));
                table_places(inner, path, places);
            }
            Item::ArrayOfTables(tables) => {
                for (index, inner) in tables.iter().enumerate() {
                    path.push(index.to_string());
                    places.extend(header_place(inner, path));
                    table_places(inner, path, places);
                    path.pop();
                }
            }
            Item::None => {}
        }
        path.pop();
    }
}

fn header_place(table: &Table, path: &[String]) -> Option<Place> {
    if table.is_dotted() || table.is_implicit() {
        return None;
    }
    table.span().map(|range| Place { path: path.to_vec(), range, header: true })
}

/// Items of arrays of inline tables, so that `channel = [{ … }]` has places as well.
fn inline_places(value: &Value, path: &mut Vec<String>, places: &mut Vec<Place>) {
    match value {
        Value::InlineTable(table) => {
            for (name, inner) in table.iter() {
                path.push(name.to_owned());
                let range = inner.span();
                places.extend(range.map(|range| Place { path: path.clone(), range, header: false }));
                inline_places(inner, path, places);
                path.pop();
            }
        }
        Value::Array(array) => {
            for (index, inner) in array.iter().enumerate() {
                path.push(index.to_string());
                inline_places(inner, path, places);
                path.pop();
            }
        }
        _ => {}
    }
}
