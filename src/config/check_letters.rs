//! What can be wrong with our own mail: templates, header fields, limits of replies.

use super::Config;
use super::check::Checker;
use super::letters::{self, LetterFault};
use crate::units::{show_bytes, show_duration};

impl Checker<'_> {
    /// Reads the templates, so that a fault in one is found before the daemon starts.
    pub(super) fn letters(&mut self, config: &Config) {
        for LetterFault { path, wrong, advice } in letters::letters(config).err().unwrap_or_default() {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.wrong(&path, &wrong, &advice);
        }
    }

    /// Limits that make sense for mail.
    pub(super) fn replies(&mut self, config: &Config) {
        let replies = &config.replies;
        let sizes = [
            ("max_mail_bytes", replies.max_mail_bytes, 64 << 10, 150 << 20),
            ("max_request_bytes", replies.max_request_bytes, 64 << 10, 256 << 20),
        ];
        for (key, bytes, least, most) in sizes {
            self.range(&["replies", key], bytes, (least, most), show_bytes);
        }
        let counts =
            [("max_recipients", replies.max_recipients, 1, 1000), ("max_attachments", replies.max_attachments, 0, 500)];
        for (key, count, least, most) in counts {
            self.range(&["replies", key], count, (least, most), |count| count.to_string());
        }
        if replies.wait >= config.admin.request_timeout {
            let limit = show_duration(config.admin.request_timeout);
            let wrong = format!("{} is not below admin.request_timeout, {limit}", show_duration(replies.wait));
            self.wrong(&["replies", "wait"], &wrong, "a reply waits so long to be filed, and is then answered");
        }
    }

    /// What senders hear of their mail.
    pub(super) fn reports(&mut self, config: &Config) {
        let (bytes, most) = (config.reports.max_returned_bytes, 25 << 20);
        if bytes > most {
            let wrong = format!("{} is out of range", show_bytes(bytes));
            let advice = format!("write at most {}; 0B returns header sections only", show_bytes(most));
            self.wrong(&["reports", "max_returned_bytes"], &wrong, &advice);
        }
    }
}
