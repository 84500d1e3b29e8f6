//! What probes have shown of a relay: one row for each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::mail::survival::Survival;

/// The latest probe of a relay, and the latest that came home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRow {
    pub relay: String,
    pub sent: ProbeSent,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<ProbeHome>,
}

/// A probe that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSent {
    /// The id of its entry.
    pub entry: String,
    pub channel: String,
    pub at: Timestamp,
    /// What was reported about it, where it will not come home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A probe that came home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeHome {
    /// The id of the entry that it was sent as.
    pub entry: String,
    pub sent_at: Timestamp,
    pub came_at: Timestamp,
    /// The word of the door that it came by.
    pub door: String,
    pub fields: Vec<FieldRow>,
}

/// What became of one header field of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldRow {
    pub name: String,
    /// The word of a `Survival`.
    pub fate: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<String>,
}

impl FieldRow {
    /// Whether readers find what was written.
    pub fn survives(&self) -> bool {
        Survival::from_word(&self.fate).is_some_and(Survival::survives)
    }
}

impl ProbeHome {
    fn field(&self, name: &str) -> Option<&FieldRow> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// Those of the names whose field did not survive. What the probe did not carry is not known.
    pub fn lost(&self, names: &[String]) -> Vec<String> {
        let lost = |name: &&String| self.field(name).is_some_and(|field| !field.survives());
        names.iter().filter(lost).cloned().collect()
    }

    /// Whether the fields of all these names are known to have survived.
    pub fn keeps(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.field(name).is_some_and(FieldRow::survives))
    }
}
