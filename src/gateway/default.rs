//! The default channel that somebody has chosen while the daemon ran: it goes before that of the configuration.

use arc_swap::ArcSwap;

use crate::mail::Address;
use crate::store::Store;
use crate::ticket::Directory;

/// The directory with the chosen default channel, if one was chosen that is still configured. Without, what the
/// configuration says counts, and the log says why.
pub fn adopted(directory: Directory, store: &Store) -> Directory {
    match chosen(store) {
        Some(chosen) if directory.by_address(&chosen.to_string()).is_some() => directory.with_default(&chosen),
        Some(chosen) => {
            let default = directory.default_channel().map(|channel| channel.address.to_string());
            tracing::warn!(
                %chosen, default, "the default channel that was chosen is no longer configured; the configuration counts"
            );
            directory
        }
        None => directory,
    }
}

/// Takes over a new directory. Somebody may choose another default meanwhile, so the choice is looked at again.
pub fn exchange(shared: &ArcSwap<Directory>, directory: Directory, store: &Store) {
    shared.store(adopted(directory, store).into());
    if let Some(chosen) = chosen(store) {
        shared.rcu(|directory| directory.with_default(&chosen));
    }
}

fn chosen(store: &Store) -> Option<Address> {
    let chosen = store.default_channel().unwrap_or_else(|trouble| {
        tracing::error!(%trouble, "the chosen default channel cannot be read");
        None
    });
    chosen.and_then(|text| Address::parse(&text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ticket::channel::tests::channel;

    #[test]
    fn the_chosen_default_channel_counts_for_as_long_as_it_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::store::Config { low_water_bytes: 0, ballast_bytes: 0, ..Default::default() };
        let (store, _) = Store::open(dir.path(), &config, Clock::system()).unwrap();
        let directory =
            |names: &[&str]| Directory::new(names.iter().map(|name| channel(name)).collect(), vec![], vec![], None);
        let default = |directory: &Directory| directory.default_channel().unwrap().address.to_string();
        assert_eq!(default(&adopted(directory(&["a@x.example", "b@x.example"]), &store)), "a@x.example");
        let chosen = Address::parse("b@x.example").unwrap();
        let step: Result<(), crate::store::StoreError> =
            store.step(|step| step.set_default_channel(&chosen, "eve", Clock::system().now()));
        step.unwrap();
        let shared = ArcSwap::from_pointee(Directory::default());
        for (configured, want) in [
            (&["a@x.example", "b@x.example"][..], "b@x.example"),
            (&["a@x.example", "c@x.example"], "a@x.example"),
            (&["c@x.example", "a@x.example", "b@x.example"], "b@x.example"),
        ] {
            exchange(&shared, directory(configured), &store);
            assert_eq!(default(&shared.load()), want, "{configured:?}");
        }
    }
}
