//! The word of the POP that owns a backend: it is believed over our own probes when it says down, never when it says up.

use std::time::Duration;

use crate::catalog::remote::Word;

/// A word older than this is none.
pub(super) const STALE: Duration = Duration::from_secs(3);

/// What is said of a backend that is at another POP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Owner {
    /// The backend is here: nobody else has a say.
    #[default]
    Ourselves,
    /// Nothing was heard yet.
    Unheard,
    Up,
    Down(String),
}

impl Owner {
    pub(super) fn of(remote: bool) -> Self {
        if remote { Self::Unheard } else { Self::Ourselves }
    }

    /// What follows from a word, or from its absence. None: nothing new.
    pub(super) fn next(&self, word: Option<&Word>, stale: bool) -> Option<Self> {
        let next = match (self, word) {
            (Self::Ourselves, _) | (Self::Unheard, None) => return None,
            (_, _) if stale => Self::Down("the backhaul says nothing any more".to_owned()),
            (_, Some(Word::Up)) => Self::Up,
            (_, Some(Word::Down(why))) => Self::Down(why.to_string()),
            (_, None) => Self::Down("its POP has not said how it is".to_owned()),
        };
        // Another reason for the same is no news; the first is the one that counts.
        let same = *self == next || matches!((self, &next), (Self::Down(_), Self::Down(_)));
        (!same).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_word() {
        let down = |why: &str| Word::Down(why.into());
        let fell = |why: &str| Owner::Down(why.to_owned());
        for (owner, word, stale, expected) in [
            (Owner::Ourselves, Some(down("x")), false, None),
            (Owner::Unheard, None, false, None),
            (Owner::Unheard, None, true, None),
            (Owner::Unheard, Some(Word::Up), false, Some(Owner::Up)),
            (Owner::Up, Some(Word::Up), false, None),
            (Owner::Up, Some(down("x")), false, Some(fell("x"))),
            (fell("x"), Some(down("y")), false, None),
            (fell("x"), Some(Word::Up), false, Some(Owner::Up)),
            (Owner::Up, Some(Word::Up), true, Some(fell("the backhaul says nothing any more"))),
            (Owner::Up, None, false, Some(fell("its POP has not said how it is"))),
        ] {
            assert_eq!(owner.next(word.as_ref(), stale), expected, "{owner:?} {word:?} {stale}");
        }
    }
}
