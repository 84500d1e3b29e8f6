//! Whether a person or a machine wrote a mail that leaves: people go first.

/// Who wrote a mail that leaves. The order is the order in which mail goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A person's reply.
    #[default]
    Person,
    /// An acknowledgement, a notice, a report: nobody waits for it as impatiently.
    Automatic,
}

impl Class {
    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Automatic => "automatic",
        }
    }

    /// The class that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Person, Self::Automatic].into_iter().find(|class| class.as_str() == word)
    }
}
