//! Every input of the fuzzing corpus, run through the same functions without the fuzzer.

#[path = "../fuzz/harness/mod.rs"]
mod harness;

#[test]
fn the_corpus_has_no_findings() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, run) in harness::TARGETS {
        let files: Vec<_> = std::fs::read_dir(corpus.join(target)).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{target} has no corpus");
        for file in files {
            println!("{}", file.display());
            run(&std::fs::read(file).unwrap());
        }
    }
}
