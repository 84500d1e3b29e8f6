//! `[store]`: how large the parts of the log are, and how much space and memory the store may use.

use serde::Deserialize;

/// The store's section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The size at which a new log segment is begun.
    #[serde(with = "crate::units::bytes")]
    pub segment_bytes: u64,
    /// Mails larger than this get a file of their own.
    #[serde(with = "crate::units::bytes")]
    pub inline_bytes: u64,
    /// With less free space than this no mail is accepted.
    #[serde(with = "crate::units::bytes")]
    pub low_water_bytes: u64,
    /// Space held back, given up when the store needs it to finish what it has begun.
    #[serde(with = "crate::units::bytes")]
    pub ballast_bytes: u64,
    /// The most records that share one sync.
    pub group_max: usize,
    /// How much memory the index may use for its cache.
    #[serde(with = "crate::units::bytes")]
    pub cache_bytes: u64,
    /// How much memory the index uses for changes that it gathers before it writes them to its files, and half as much
    /// again while it does. They are in the log all the while.
    #[serde(with = "crate::units::bytes")]
    pub index_buffer_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            inline_bytes: 128 << 10,
            low_water_bytes: 64 << 20,
            ballast_bytes: 16 << 20,
            group_max: 1024,
            cache_bytes: 8 << 20,
            index_buffer_bytes: 8 << 20,
        }
    }
}
