//! What can be wrong with one `[[oauth]]`.

use super::config::ProviderConfig;

/// The key, what is wrong with it, and what to write.
pub(super) fn faults(config: &ProviderConfig) -> Vec<(&'static str, String, String)> {
    let mut faults = Vec::new();
    if config.name.is_empty() {
        faults.push(("name", "the provider has no name".to_owned(), "add name = \"…\"".to_owned()));
    }
    faults
}
