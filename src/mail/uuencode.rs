//! Files that old programs put into a text, each between "begin" and "end" (POSIX uuencode).

/// How many files of one text are taken out.
const MAX_FILES: usize = 100;

/// How much longer a file may be than its lines: where they have lost the spaces at their ends, which stand for zeros, two
/// characters are all that is left of 45 bytes.
const MOST_GROWTH: usize = 2;

/// What a file may be long whatever its lines are.
const SMALL: usize = 64 << 10;

/// One file.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Takes the files out of a text: what is left of it, and the files in order. What only looks like one stays.
pub fn take_out(text: String) -> (String, Vec<File>) {
    if !text.contains("begin ") {
        return (text, Vec::new());
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (mut rest, mut files) = (String::new(), Vec::new());
    let mut at = 0;
    while at < lines.len() {
        let found = if files.len() < MAX_FILES { file(&lines[at..]) } else { None };
        match found {
            Some((file, length)) => {
                files.push(file);
                at += length;
            }
            None => {
                rest.push_str(lines[at]);
                at += 1;
            }
        }
    }
    (rest, files)
}

/// The bytes of a body that is a file as a whole.
pub fn decode(body: &[u8]) -> Vec<u8> {
    let mut lines = body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let begun = lines.any(|line| name(&String::from_utf8_lossy(line)).is_some());
    let mut bytes = Vec::with_capacity(body.len() / 4 * 3);
    // Without its first line nothing says where it begins.
    if begun {
        for line in lines.map_while(line_bytes).take_while(|line| !line.is_empty()) {
            if bytes.len() + line.len() > longest(body.len()) {
                break;
            }
            bytes.extend_from_slice(&line);
        }
    }
    bytes
}

/// The file that begins with the first line, and how many lines it takes. It ends with "end"; one that lost its end has to
/// be of several lines to count.
fn file(lines: &[&str]) -> Option<(File, usize)> {
    let name = name(lines.first()?.trim_end())?;
    let mut bytes = Vec::new();
    let (mut length, mut encoded) = (1, 0);
    for line in &lines[1..] {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.trim_end() == "end" {
            return (length > 1).then_some((File { name, bytes }, length + 1));
        }
        encoded += line.len() + 1;
        let decoded = line_bytes(line.as_bytes()).filter(|decoded| bytes.len() + decoded.len() <= longest(encoded));
        let Some(decoded) = decoded else { break };
        bytes.extend_from_slice(&decoded);
        length += 1;
    }
    (length > 3).then_some((File { name, bytes }, length))
}

/// The most bytes that so many characters are taken for.
fn longest(encoded: usize) -> usize {
    SMALL.saturating_add(encoded.saturating_mul(MOST_GROWTH))
}

/// The name in "begin 644 name".
fn name(line: &str) -> Option<String> {
    let (mode, name) = line.strip_prefix("begin ")?.split_once(' ')?;
    let fits = matches!(mode.len(), 3 | 4) && mode.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let name: String = name.trim().chars().map(|c| if c.is_control() { '_' } else { c }).take(255).collect();
    (fits && !name.is_empty()).then_some(name)
}

/// The bytes of one line: its first character says how many there are, four characters hold three of them. Spaces at its
/// end may have been lost on the way.
fn line_bytes(line: &[u8]) -> Option<Vec<u8>> {
    let value = |byte: u8| matches!(byte, b' '..=b'`').then(|| (byte - b' ') & 0x3f);
    let Some((first, rest)) = line.split_first() else { return Some(Vec::new()) };
    let count = usize::from(value(*first)?);
    // Some programs add a check character, none adds more.
    if count > 45 || rest.len() > count.div_ceil(3) * 4 + 2 {
        return None;
    }
    let mut values = rest.iter().map(|byte| value(*byte)).collect::<Option<Vec<u8>>>()?;
    values.resize(count.div_ceil(3) * 4, 0);
    let mut bytes: Vec<u8> = values
        .chunks_exact(4)
        .flat_map(|four| [four[0] << 2 | four[1] >> 4, four[1] << 4 | four[2] >> 2, four[2] << 6 | four[3]])
        .collect();
    bytes.truncate(count);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_out_and_sentences_stay() {
        let text = "Look:\n\nbegin 644 cat.txt\n#0V%T\n`\nend\n\nBye\n";
        let (rest, files) = take_out(text.to_owned());
        assert_eq!(rest, "Look:\n\n\nBye\n");
        assert_eq!(files, [File { name: "cat.txt".into(), bytes: b"Cat".to_vec() }]);
        assert_eq!(decode(b"begin 644 cat.txt\r\n#0V%T\r\n`\r\nend\r\n"), b"Cat");
        for text in ["begin 644 times\nand again\n", "begin with\nit", "begin 644 x", "begin 999 x\n#0V%T\n`\nend\n"] {
            assert_eq!(take_out(text.to_owned()), (text.to_owned(), Vec::new()));
        }
        let many = "begin 644 x\n".repeat(100_000);
        assert!(take_out(many).1.is_empty());
        let endless = format!("begin 644 x\n{}", "#0V%T\n".repeat(100_000));
        assert_eq!(take_out(endless).1.len(), 1);
        let zeros = format!("begin 644 x\n{}`\nend\n", "M\n".repeat(100_000));
        assert!(decode(zeros.as_bytes()).len() <= longest(zeros.len()));
        let (rest, files) = take_out(zeros.clone());
        assert!(files[0].bytes.len() <= longest(zeros.len()) && rest.ends_with("M\n`\nend\n"));
        assert_eq!(decode(b"begin 644 x\nM\n`\nend\n"), [0; 45], "lost spaces are zeros");
    }
}
