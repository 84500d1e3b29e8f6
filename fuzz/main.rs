//! One binary for all targets, so that the daemon is built once; `FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::OnceLock;

mod harness;

static TARGET: OnceLock<harness::Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
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
