//! A configuration is taken or refused with faults that people find in their file, and what is taken can be used.

use std::path::Path;

use ticketgate::config::Config;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that it names are opened, so it names none outside this directory; networks have a slash as well.
    if text.split('/').skip(1).any(|behind| !behind.starts_with(|c: char| c.is_ascii_digit())) {
        return;
    }
    match Config::parse(text, Path::new("ticketgate.toml")) {
        Ok(config) => {
            assert!(!config.directory().channels().is_empty(), "no channel is left");
            assert!(config.default_relay().is_some());
            let _ = (config.sources(), config.setup(), config.socket_path(), config.letters());
        }
        Err(faults) => {
            assert!(!faults.all().is_empty());
            let lines = text.split('\n').count();
            for fault in faults.all() {
                assert!(!fault.field.trim().is_empty() && !fault.said.trim().is_empty(), "{fault:?}");
                assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)), "{fault:?} of {lines} lines");
            }
            assert_eq!(faults.to_string().lines().count(), faults.all().len(), "{faults}");
        }
    }
}
