//! What a provider allows an account to send, as rules. Counting is the outbox's.

use serde::Deserialize;

use super::config::Preset;

/// The limits of one account; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaRules {
    /// Mails in any 60 seconds.
    pub mails_per_minute: Option<u64>,
    /// Bytes in any 5 minutes.
    pub bytes_per_5_minutes: Option<u64>,
    /// Distinct recipients in any 24 hours.
    pub recipients_per_day: Option<u64>,
    /// Mails in any 24 hours.
    pub mails_per_day: Option<u64>,
    /// At this share of `mails_per_day` a warning is given and the default relay takes over; `None` never does that.
    pub give_way_percent: Option<u8>,
    pub give_way: GiveWay,
}

/// When the default relay takes over from an account whose quota is nearly used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GiveWay {
    /// For mail whose author's domain permits the default relay: by SPF, DKIM and DMARC, as DNS has them.
    #[default]
    Aligned,
    /// For all mail: the operator knows better than DNS does.
    Always,
    Never,
}

/// `[relay.quota]`: limits that take the place of the preset's; 0 takes a limit away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    pub mails_per_minute: Option<u64>,
    #[serde(with = "optional_bytes")]
    pub bytes_per_5_minutes: Option<u64>,
    pub recipients_per_day: Option<u64>,
    pub mails_per_day: Option<u64>,
    pub give_way_percent: Option<u8>,
    pub give_way: GiveWay,
}

impl QuotaConfig {
    /// The preset's limits with these in their place.
    pub fn rules(&self, preset: Preset) -> Option<QuotaRules> {
        let known = QuotaRules::of(preset).unwrap_or_default();
        let over = |own: Option<u64>, known: Option<u64>| own.or(known).filter(|limit| *limit > 0);
        let rules = QuotaRules {
            mails_per_minute: over(self.mails_per_minute, known.mails_per_minute),
            bytes_per_5_minutes: over(self.bytes_per_5_minutes, known.bytes_per_5_minutes),
            recipients_per_day: over(self.recipients_per_day, known.recipients_per_day),
            mails_per_day: over(self.mails_per_day, known.mails_per_day),
            give_way_percent: self.give_way_percent.or(known.give_way_percent).filter(|percent| *percent > 0),
            give_way: self.give_way,
        };
        let limits = [rules.mails_per_minute, rules.bytes_per_5_minutes, rules.recipients_per_day, rules.mails_per_day];
        limits.iter().any(Option::is_some).then_some(rules)
    }
}

impl QuotaRules {
    /// Whether mail gives way to the default relay at all when a day's window is nearly full.
    pub fn gives_way(&self) -> bool {
        self.give_way_percent.is_some() && self.give_way != GiveWay::Never
    }

    /// What a provider allows one mailbox (R20, R21).
    pub fn of(preset: Preset) -> Option<Self> {
        match preset {
            Preset::None => None,
            Preset::Microsoft365 | Preset::Exchange => Some(Self {
                mails_per_minute: Some(10),
                bytes_per_5_minutes: Some(50_000_000),
                recipients_per_day: Some(10_000),
                ..Self::default()
            }),
            Preset::Gmail => Some(Self { mails_per_day: Some(500), give_way_percent: Some(90), ..Self::default() }),
            Preset::Workspace => {
                Some(Self { mails_per_day: Some(2_000), give_way_percent: Some(90), ..Self::default() })
            }
        }
    }
}

/// A size such as `"50MB"` that may be left out.
mod optional_bytes {
    use serde::{Deserialize, Deserializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        #[derive(Deserialize)]
        struct Bytes(#[serde(with = "crate::units::bytes")] u64);
        Option::<Bytes>::deserialize(deserializer).map(|bytes| bytes.map(|Bytes(bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_limits_take_the_place_of_the_presets() {
        assert_eq!(QuotaConfig::default().rules(Preset::None), None);
        let own: QuotaConfig = toml::from_str("mails_per_minute = 30\nbytes_per_5_minutes = \"1MB\"").unwrap();
        let rules = own.rules(Preset::Exchange).unwrap();
        assert_eq!((rules.mails_per_minute, rules.bytes_per_5_minutes), (Some(30), Some(1_000_000)));
        assert_eq!(rules.recipients_per_day, Some(10_000));
        let none = QuotaConfig { mails_per_day: Some(0), ..QuotaConfig::default() };
        assert_eq!(none.rules(Preset::Gmail), None);
        let gmail = QuotaConfig::default().rules(Preset::Workspace).unwrap();
        assert_eq!((gmail.mails_per_day, gmail.give_way_percent), (Some(2_000), Some(90)));
        // Which setting, and whether and how mail gives way.
        let table = [
            ("", true, GiveWay::Aligned),
            ("give_way = \"always\"", true, GiveWay::Always),
            ("give_way = \"never\"", false, GiveWay::Never),
            ("give_way_percent = 0\ngive_way = \"always\"", false, GiveWay::Always),
        ];
        for (text, gives_way, how) in table {
            let rules = toml::from_str::<QuotaConfig>(text).unwrap().rules(Preset::Gmail).unwrap();
            assert_eq!((rules.gives_way(), rules.give_way), (gives_way, how), "{text}");
        }
    }
}
