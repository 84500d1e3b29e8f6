//! One account as the configuration has it, and what of the configuration belongs to all of them.

use std::path::PathBuf;

use super::config::Config;
use super::credential::Flow;
use crate::mail::Address;
use crate::net::oauth::ProviderConfig;

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub channel: Address,
    /// The name that the mailbox is logged in to with.
    pub user: String,
    pub host: String,
    /// A file that holds the password; without one it is asked for by `connect` and kept in the vault.
    pub password_file: Option<PathBuf>,
    /// How it is authorised, where it is not by a password.
    pub oauth: Option<OauthUse>,
    /// Whether it is the whole mailbox that is read, or one of its folders.
    pub inbox: bool,
}

/// How an account is authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthUse {
    /// The name of an `[[oauth]]`.
    pub provider: String,
    pub flow: Flow,
    /// The account that consents for a shared mailbox.
    pub consent_as: Option<String>,
}

impl Account {
    /// An account with a password.
    pub fn with_password(channel: Address, user: &str, host: &str) -> Self {
        Self { channel, user: user.into(), host: host.into(), password_file: None, oauth: None, inbox: true }
    }

    /// The mailbox's own address: the name that it is logged in to with, if that is an address.
    pub fn mailbox(&self) -> Address {
        Address::parse(&self.user).unwrap_or_else(|_| self.channel.clone())
    }

    /// Whose consent is taken (R4): the mailbox's own account, and the one that a shared mailbox was granted to.
    pub fn consenting(&self) -> Vec<String> {
        let named = self.oauth.as_ref().and_then(|oauth| oauth.consent_as.clone());
        named.into_iter().chain([self.mailbox().to_string()]).collect()
    }
}

/// What the configuration says of accounts.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub config: Config,
    pub accounts: Vec<Account>,
    pub providers: Vec<ProviderConfig>,
    /// Every address that is used for something, with what that is: `the address of the channel "…"`, `an agent`.
    pub uses: Vec<(Address, Use)>,
}

/// What an address is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    Agent,
    EndUser,
    /// The address, or an alias, of this channel.
    Channel(Address),
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent => f.write_str("listed as an agent"),
            Self::EndUser => f.write_str("listed as an end user"),
            Self::Channel(channel) => write!(f, "used by the channel {channel}"),
        }
    }
}

impl Setup {
    /// By what else the addresses of an account are used (R3): one address, one way in.
    pub fn taken(&self, account: &Account) -> Option<(Address, Use)> {
        let mailbox = account.inbox.then(|| account.mailbox());
        let own = [Some(account.channel.clone()), mailbox];
        own.into_iter().flatten().find_map(|address| {
            let other = |(used, by): &&(Address, Use)| {
                *used == address && !matches!(by, Use::Channel(channel) if *channel == account.channel)
            };
            self.uses.iter().find(other).cloned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_use() {
        let address = |text: &str| Address::parse(text).unwrap();
        let setup = Setup {
            uses: vec![
                (address("help@x.example"), Use::Channel(address("help@x.example"))),
                (address("sales@x.example"), Use::Channel(address("sales@x.example"))),
                (address("eve@x.example"), Use::Agent),
            ],
            ..Setup::default()
        };
        let table = [
            ("help@x.example", "help", true, None),
            ("help@x.example", "HELP@x.example", true, None),
            ("help@x.example", "Eve@x.example", true, Some("listed as an agent")),
            // A shared folder in somebody's mailbox is nobody's address.
            ("help@x.example", "eve@x.example", false, None),
            ("help@x.example", "sales@x.example", true, Some("used by the channel sales@x.example")),
            ("eve@x.example", "help@x.example", true, Some("listed as an agent")),
        ];
        for (channel, user, inbox, want) in table {
            let account = Account { inbox, ..Account::with_password(address(channel), user, "imap.x.example") };
            let got = setup.taken(&account).map(|(_, by)| by.to_string());
            assert_eq!(got.as_deref(), want, "{channel} {user}");
        }
    }
}
