//! A reader that takes only what the parser asks for never takes more than the header, and always comes to an end.

use ticketgate::net::proxy::{MAX_HEADER, Progress, parse};

pub fn run(data: &[u8]) {
    let mut have = 0;
    while let Ok(Progress::Need(more)) = parse(&data[..have]) {
        assert!(more > 0);
        have += more;
        assert!(have <= MAX_HEADER);
        if have > data.len() {
            return;
        }
    }
}
