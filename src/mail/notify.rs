//! What a sender wants to hear of its mail: NOTIFY (RFC 3461 section 4.1), and what there is to be told (RFC 3464).

/// What became of a mail for one recipient, as a report names it (RFC 3464 section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It will not be delivered, and nobody tries any more.
    Failed,
    /// It is not delivered yet, and is still being tried.
    Delayed,
    /// It was handed to a server that tells nobody what becomes of it.
    Relayed,
    /// It lies where it was to go.
    Delivered,
}

impl Action {
    pub const ALL: [Self; 4] = [Self::Failed, Self::Delayed, Self::Relayed, Self::Delivered];

    /// The word that a report has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
        }
    }

    /// What a word of a report means.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }

    /// The word of NOTIFY that asks for it.
    fn keyword(self) -> &'static str {
        match self {
            Self::Failed => "FAILURE",
            Self::Delayed => "DELAY",
            Self::Relayed | Self::Delivered => "SUCCESS",
        }
    }
}

/// Whether a sender wants to hear of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It has asked for it.
    Asked,
    /// It has said nothing, so that it is for us to decide.
    Open,
    /// It does not want to hear of it.
    Not,
}

/// What `notify`, as it was written behind RCPT, says about an action. Without the parameter a sender may hear of a
/// failure and of a delay, and never of a success (RFC 3461 section 4.1).
pub fn wish(notify: Option<&str>, action: Action) -> Wish {
    let Some(notify) = notify else {
        return if matches!(action, Action::Failed | Action::Delayed) { Wish::Open } else { Wish::Not };
    };
    let asked = notify.split(',').any(|word| word.trim().eq_ignore_ascii_case(action.keyword()));
    if asked { Wish::Asked } else { Wish::Not }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_what_was_written_and_a_success_is_never_told_unasked() {
        use Wish::{Asked, Not, Open};
        // NOTIFY, and what holds for failed, delayed, relayed, delivered.
        let table = [
            (None, [Open, Open, Not, Not]),
            (Some("NEVER"), [Not, Not, Not, Not]),
            (Some("FAILURE"), [Asked, Not, Not, Not]),
            (Some("delay,failure"), [Asked, Asked, Not, Not]),
            (Some("SUCCESS"), [Not, Not, Asked, Asked]),
            (Some("SUCCESS,FAILURE,DELAY"), [Asked, Asked, Asked, Asked]),
        ];
        for (notify, want) in table {
            assert_eq!(Action::ALL.map(|action| wish(notify, action)), want, "{notify:?}");
        }
        for action in Action::ALL {
            assert_eq!(Action::from_word(action.as_str()), Some(action));
        }
        assert_eq!(Action::from_word("expanded"), None);
    }
}
