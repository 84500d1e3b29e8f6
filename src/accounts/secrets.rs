//! Looking after the secrets of all accounts: which keys there are, and exchanging them.

use super::{AccountError, Accounts};
use crate::mail::Address;
use crate::store::vault::{OldKeys, Rotation, VaultState};

impl Accounts {
    /// Which keys there are, and what they are used for. Blocks on the disk.
    pub fn secrets(&self) -> Result<VaultState, AccountError> {
        Ok(self.0.vault.state()?)
    }

    /// Encrypts the secrets of all accounts, those that are no longer configured too, under a fresh key. Blocks on the
    /// disk.
    pub fn rotate_secrets(&self, old: OldKeys, author: &str) -> Result<Rotation, AccountError> {
        let known = self.0.store.sources()?;
        let known = known.iter().filter_map(|row| Address::parse(&row.channel).ok()).map(|address| address.key());
        let setup = self.setup();
        let mut names: Vec<String> = setup.accounts.iter().map(|account| account.channel.key()).chain(known).collect();
        names.sort_unstable();
        names.dedup();
        let done = self.0.vault.rotate(&names, old)?;
        tracing::info!(
            author, secrets = done.secrets, added = done.added, dropped = done.dropped, key_file = %done.key_file.display(),
            "the key of the secrets was exchanged"
        );
        Ok(done)
    }
}
