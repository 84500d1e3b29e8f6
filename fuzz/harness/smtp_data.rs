//! The decoder of DATA against its definition, with the input cut anywhere.

use ticketgate::smtp::data::{ChunkScanner, DataDecoder};

pub fn run(data: &[u8]) {
    let Some((&step, data)) = data.split_first() else { return };
    let step = usize::from(step).max(1);
    let (mut decoder, mut out, mut end, mut taken) = (DataDecoder::default(), Vec::new(), None, 0);
    for piece in data.chunks(step) {
        if let Some(octets) = decoder.push(piece, &mut out) {
            end = Some(taken + octets);
            break;
        }
        taken += piece.len();
    }
    let framed = [b"\r\n", data].concat();
    let want_end = framed.windows(5).position(|window| window == b"\r\n.\r\n");
    assert_eq!(end, want_end.map(|at| at + 3));
    let message = &framed[..want_end.map_or(framed.len(), |at| at + 2)];
    let mut want = Vec::new();
    for (at, octet) in message.iter().enumerate().skip(2) {
        if !(*octet == b'.' && message[..at].ends_with(b"\r\n")) {
            want.push(*octet);
        }
    }
    if end.is_none() {
        want.truncate(out.len());
    }
    assert_eq!(out, want);
    // What the two ways of receiving say of the same octets must agree.
    let mut scanner = ChunkScanner::default();
    out.chunks(step).for_each(|piece| scanner.push(piece));
    if end.is_some() {
        assert_eq!(scanner.findings(), decoder.findings());
    }
}
