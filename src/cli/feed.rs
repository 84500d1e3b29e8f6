//! Reads server-sent events out of the bytes of an answer.

/// Bytes that may end in the middle of a line.
#[derive(Debug, Default)]
pub(super) struct Feed {
    rest: Vec<u8>,
    last: u64,
}

impl Feed {
    /// Takes bytes; returns how many events ended in them.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        self.rest.extend_from_slice(bytes);
        let mut events = 0;
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(id) = line.strip_prefix("id:").and_then(|id| id.trim().parse().ok()) {
                self.last = id;
                events += 1;
            }
        }
        events
    }

    /// The place of the last event.
    pub fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::Feed;

    #[test]
    fn events_are_counted_over_any_cuts_and_comments_are_none() {
        let text = b": alive\n\nid: 7\nevent: entry\ndata: {}\n\nid:9\nevent: entry\ndata: {}\n\n";
        for cut in 1..text.len() {
            let mut feed = Feed::default();
            let count = feed.take(&text[..cut]) + feed.take(&text[cut..]);
            assert_eq!((count, feed.last()), (2, 9), "{cut}");
        }
    }
}
