//! Lines are framed the same however they arrive, and every line is a command or an error, never a panic.

use ticketgate::smtp::command::{Command, RcptCommand, Recipient, parse};
use ticketgate::smtp::line::{Frame, LineFault, LineReader};

pub fn run(data: &[u8]) {
    let Some((&step, data)) = data.split_first() else { return };
    let whole = frames(data, data.len().max(1));
    assert_eq!(whole, frames(data, usize::from(step).max(1)), "framing depends on how the input is cut");
    for line in whole.into_iter().flatten() {
        assert!(!line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
        let command = parse(&line);
        if let Ok(Command::Rcpt(RcptCommand { recipient: Recipient::Address(address), .. })) = &command {
            assert!(String::from_utf8_lossy(&line).contains(address.local()), "an address that is not in the line");
        }
    }
}

fn frames(data: &[u8], step: usize) -> Vec<Result<Vec<u8>, LineFault>> {
    let (mut reader, mut waiting, mut found) = (LineReader::default(), Vec::new(), Vec::new());
    for piece in data.chunks(step) {
        waiting.extend_from_slice(piece);
        loop {
            match reader.next(&waiting, 64) {
                Frame::Line(length) => {
                    assert!(length + 2 <= 64);
                    found.push(Ok(waiting[..length].to_vec()));
                    waiting.drain(..length + 2);
                }
                Frame::Incomplete { drop: 0 } => break,
                Frame::Incomplete { drop } => {
                    waiting.drain(..drop);
                }
                Frame::Fault(fault) => found.push(Err(fault)),
            }
        }
        assert!(waiting.len() <= 64 + step);
    }
    found
}
