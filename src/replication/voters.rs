//! Permits for drains: a few POPs, the voters, promise that enough others stay, and most of them must.
//!
//! Two majorities share a voter, and each voter counts those out whom it has promised something: so of all who hold a
//! permit at once, every one was counted out for the others. A promise is on disk before it is given. It ends when its
//! holder says that it does not hold it any more, and never by a clock.

mod holder;
mod word;

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

pub use self::holder::{Ask, Held, Holder, Permits};
pub use self::word::{PermitId, Reply, Word};
use super::octets::{Malformed, Reader, put_number};
use super::version::Origin;

/// Promises that are kept, of all prefixes.
const MOST_PROMISES: usize = 16_384;

/// What one voter has promised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Voter {
    promises: BTreeMap<IpNetwork, BTreeMap<Origin, PermitId>>,
    /// Permits of a holder up to this one have ended, or are named in what it said last.
    ended: BTreeMap<Origin, PermitId>,
    /// The promises were lost with the disk: those who have said since then what they hold.
    lost: Option<BTreeSet<Origin>>,
}

/// What a word came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heeded {
    pub reply: Reply,
    /// It has to be on disk before the reply goes out.
    pub changed: bool,
}

/// Whom a voter knows of.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Everybody in the fleet, the voter included.
    pub members: &'a BTreeSet<Origin>,
    /// Those that announce the prefix and are there, the voter included if it does.
    pub announcing: &'a BTreeSet<Origin>,
}

impl Voter {
    /// `stored`: what was on disk, if it can be relied on.
    #[must_use]
    pub fn new(stored: Option<&[u8]>) -> Self {
        let stored = stored.and_then(|octets| Self::read(octets).ok());
        stored.unwrap_or_else(|| Self { lost: Some(BTreeSet::new()), ..Self::default() })
    }

    /// Somebody asks for a permit, or says what it holds.
    pub fn handle(&mut self, from: &Origin, word: &Word, known: Known<'_>) -> Heeded {
        match word {
            Word::Ask { prefix, permit, min_announcers } => {
                self.ask(from, *prefix, *permit, *min_announcers, known)
            }
            Word::Holds { up_to, permits } => self.told(from, *up_to, permits, known.members),
        }
    }

    /// Who holds what.
    pub fn promises(&self) -> impl Iterator<Item = (IpNetwork, &Origin, PermitId)> {
        let of = |(prefix, holders): (&IpNetwork, _)| {
            let prefix = *prefix;
            let holders: &BTreeMap<Origin, PermitId> = holders;
            holders.iter().map(move |(holder, permit)| (prefix, holder, *permit)).collect::<Vec<_>>()
        };
        self.promises.iter().flat_map(of)
    }

    /// Those that have to say what they hold before anything is promised again.
    #[must_use]
    pub fn unheard(&self, members: &BTreeSet<Origin>) -> Vec<Origin> {
        let Some(heard) = &self.lost else { return Vec::new() };
        members.difference(heard).cloned().collect()
    }

    fn ask(
        &mut self,
        from: &Origin,
        prefix: IpNetwork,
        permit: PermitId,
        min: u32,
        known: Known<'_>,
    ) -> Heeded {
        let unheard = self.unheard(known.members);
        if let Some(first) = unheard.first() {
            let more = if unheard.len() > 1 { " and others" } else { "" };
            return refused(format!(
                "it has lost its promises with its disk, and waits until {first}{more} has said what it holds"
            ));
        }
        let holders = self.promises.get(&prefix);
        let own = holders.and_then(|holders| holders.get(from)).copied();
        if own == Some(permit) {
            return Heeded { reply: Reply::Granted, changed: false };
        }
        if self.ended.get(from).is_some_and(|ended| *ended >= permit) || own > Some(permit) {
            return refused("the question is an old one".to_owned());
        }
        let holds = |name: &&Origin| holders.is_some_and(|holders| holders.contains_key(*name));
        let staying: Vec<&Origin> =
            known.announcing.iter().filter(|name| *name != from && !holds(name)).collect();
        if staying.len() < min as usize {
            let who =
                |names: Vec<String>| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            let staying = who(staying.into_iter().map(ToString::to_string).collect());
            let leaving = holders.into_iter().flat_map(BTreeMap::keys).filter(|name| *name != from);
            let leaving = who(leaving.map(ToString::to_string).collect());
            return refused(format!(
                "{prefix} would be announced by {staying}, and {min} must; {leaving} may drain it already"
            ));
        }
        if self.promises.values().map(BTreeMap::len).sum::<usize>() >= MOST_PROMISES {
            return refused("it has too many promises to keep".to_owned());
        }
        self.promises.entry(prefix).or_default().insert(from.clone(), permit);
        Heeded { reply: Reply::Granted, changed: true }
    }

    /// A holder names all of its permits, those it asks for included: others of it have ended.
    fn told(
        &mut self,
        from: &Origin,
        up_to: PermitId,
        permits: &BTreeMap<IpNetwork, PermitId>,
        members: &BTreeSet<Origin>,
    ) -> Heeded {
        let before = self.clone();
        // What it said before it said what we know already.
        let ended = self.ended.entry(from.clone()).or_default();
        if up_to < *ended {
            return Heeded { reply: Reply::Noted, changed: false };
        }
        *ended = up_to;
        self.promises.retain(|prefix, holders| {
            if holders.get(from).is_some_and(|held| *held <= up_to && permits.get(prefix) != Some(held)) {
                holders.remove(from);
            }
            !holders.is_empty()
        });
        for (prefix, permit) in permits {
            let held = self.promises.entry(*prefix).or_default().entry(from.clone()).or_insert(*permit);
            *held = (*held).max(*permit);
        }
        if let Some(heard) = &mut self.lost {
            heard.insert(from.clone());
            if members.iter().all(|member| heard.contains(member)) {
                self.lost = None;
            }
        }
        Heeded { reply: Reply::Noted, changed: *self != before }
    }

    /// As it is kept on disk.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut into = vec![FORM, u8::from(self.lost.is_some())];
        put_number(&mut into, self.ended.len() as u64);
        for (holder, ended) in &self.ended {
            holder.put(&mut into);
            ended.put(&mut into);
        }
        let promises: Vec<_> = self.promises().collect();
        put_number(&mut into, promises.len() as u64);
        for (prefix, holder, permit) in promises {
            word::put_prefix(&mut into, prefix);
            holder.put(&mut into);
            permit.put(&mut into);
        }
        into
    }

    fn read(octets: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(octets);
        if reader.octet("form")? != FORM {
            return Err(Malformed("form"));
        }
        let lost = reader.flag("lost promises")?.then(BTreeSet::new);
        let mut voter = Self { lost, ..Self::default() };
        for _ in 0..reader.up_to(MOST_PROMISES, "number of holders")? {
            let holder = Origin::read(&mut reader)?;
            voter.ended.insert(holder, PermitId::read(&mut reader)?);
        }
        for _ in 0..reader.up_to(2 * MOST_PROMISES, "number of promises")? {
            let prefix = word::read_prefix(&mut reader)?;
            let holder = Origin::read(&mut reader)?;
            let permit = PermitId::read(&mut reader)?;
            voter.promises.entry(prefix).or_default().insert(holder, permit);
        }
        reader.finish("end of the promises")?;
        Ok(voter)
    }
}

/// The form in which promises are kept.
const FORM: u8 = 1;

fn refused(why: String) -> Heeded {
    Heeded { reply: Reply::Refused(why), changed: false }
}

#[cfg(test)]
mod tests;
