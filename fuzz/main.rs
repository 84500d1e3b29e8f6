//! One binary for all targets, so that the daemon is built once; `FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::OnceLock;

mod harness;

static TARGET: OnceLock<harness::Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        // The fuzzer's own hook ends the process at every panic, even where the daemon catches one of a library's, of
        // which not a word is said here. A panic that leaves the target ends the process still.
        std::panic::set_hook(Box::new(|info| {
            if !info.location().is_some_and(|place| place.file().contains("/registry/")) {
                eprintln!("{info}");
            }
        }));
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let known = harness::TARGETS.iter().find(|(target, _)| *target == name);
        let (_, run) = known.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} names no target"));
        let _ = TARGET.set(*run);
    },
    |data: &[u8]| {
        if let Some(run) = TARGET.get() {
            run(data);
        }
    }
);
