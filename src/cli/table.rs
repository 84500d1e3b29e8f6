//! Tables for people, which fit the width of the terminal.

use super::output::harmless;

/// Columns of at most this width are never cut: an id or a time is of use only whole.
const WHOLE: usize = 16;

/// No column gets narrower than this to make room.
const LEAST: usize = 6;

/// Spaces between two columns.
const GAP: usize = 2;

/// A table: a header and rows of as many cells.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| harmless(cell, false)).collect());
    }

    /// The lines; the widest columns are cut with an ellipsis where the width does not do, and what does not fit even
    /// then goes over it.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let widest =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| columns_of(cell)).max();
        let mut widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or(0)).collect();
        let room = width.saturating_sub(GAP * columns.saturating_sub(1));
        let whole = widths.clone();
        while widths.iter().sum::<usize>() > room {
            let able = widths.iter_mut().zip(&whole).filter(|(now, was)| **was > WHOLE && **now > LEAST);
            let Some((largest, _)) = able.max() else { break };
            *largest -= 1;
        }
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        let cell = cut(cell, *width);
        line.push_str(&cell);
        line.extend(std::iter::repeat_n(' ', width - columns_of(&cell).min(*width) + GAP));
    }
    line.trim_end().to_owned()
}

/// Text that is at most so many columns wide.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns_of(text) <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let mut kept = String::new();
    for c in text.chars() {
        used += columns_of_char(c);
        if used >= width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// How many columns of a terminal a text takes.
fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_char).sum()
}

/// Two for the wide scripts and pictographs, none for marks that combine, one for the rest. Terminals differ in the
/// rare cases, and a table may then be off by a column there.
fn columns_of_char(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1f9ff => 2,
        0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Text in lines that are at most so wide; words that are longer are left whole.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for source in text.lines() {
        let mut line = String::new();
        for word in source.split(' ') {
            if !line.is_empty() && columns_of(&line) + 1 + columns_of(word) > width {
                lines.push(std::mem::take(&mut line));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_and_control_characters_do_no_harm() {
        let mut table = Table::new(&["NO", "TITLE"]);
        table.row(vec!["1".into(), "a title that is longer than the line".into()]);
        table.row(vec!["22".into(), "bad\u{1b}[2Jescape".into()]);
        table.row(vec!["3".into(), "漢字漢字漢字漢字漢字漢字".into()]);
        let lines = table.lines(20);
        assert_eq!(lines, ["NO  TITLE", "1   a title that is…", "22  bad\u{fffd}[2Jescape", "3   漢字漢字漢字漢…"]);
        assert!(lines.iter().all(|line| columns_of(line) <= 20));
    }

    #[test]
    fn ids_and_times_stay_whole() {
        let mut table = Table::new(&["MAIL", "TO", "WHY"]);
        let why = "451 4.4.1 the server cannot be reached";
        table.row(vec!["6c4ebb6vk7r00".into(), "a.customer@customer.example".into(), why.into()]);
        assert_eq!(table.lines(40)[1], "6c4ebb6vk7r00  a.customer@…  451 4.4.1 …");
        assert_eq!(table.lines(20)[1], "6c4ebb6vk7r00  a.cus…  451 4…");
        assert_eq!(table.lines(usize::MAX)[1], format!("6c4ebb6vk7r00  a.customer@customer.example  {why}"));
    }

    #[test]
    fn text_wraps_at_words() {
        assert_eq!(wrap("one two three\n\nfour", 8), ["one two", "three", "", "four"]);
    }
}
