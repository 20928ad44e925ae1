//! The flows of one door at one worker: found by client, and in the order in which something last moved.
//!
//! Pure: told the time. It takes what it is given; who may come in, [`super::flow`] says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// No slot.
const NONE: u32 = u32::MAX;

/// Flows by client.
#[derive(Debug)]
pub(super) struct Table<F> {
    by_client: HashMap<SocketAddr, u32>,
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    /// Ends of the list of those in use, in the order of `moved`.
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Slot<F> {
    /// Tells this use of the slot from others.
    generation: u32,
    older: u32,
    newer: u32,
    held: Option<Held<F>>,
}

#[derive(Debug)]
struct Held<F> {
    client: SocketAddr,
    moved: Instant,
    flow: F,
}

/// Names one flow for as long as it is in the table, and nothing after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowKey {
    index: u32,
    generation: u32,
}

impl<F> Default for Table<F> {
    fn default() -> Self {
        Self { by_client: HashMap::new(), slots: Vec::new(), free: Vec::new(), oldest: NONE, newest: NONE }
    }
}

impl<F> Table<F> {
    /// The client's flow.
    pub(super) fn find(&self, client: &SocketAddr) -> Option<FlowKey> {
        let index = *self.by_client.get(client)?;
        Some(FlowKey { index, generation: self.slots[index as usize].generation })
    }

    /// Takes in a flow of a client that has none.
    pub(super) fn insert(&mut self, client: SocketAddr, flow: F, now: Instant) -> FlowKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, older: NONE, newer: NONE, held: None });
            u32::try_from(self.slots.len() - 1).expect("descriptors run out long before")
        });
        self.slots[index as usize].held = Some(Held { client, moved: now, flow });
        let before = self.by_client.insert(client, index);
        debug_assert!(before.is_none(), "{client} has a flow already");
        self.append(index);
        FlowKey { index, generation: self.slots[index as usize].generation }
    }

    pub(super) fn get_mut(&mut self, key: FlowKey) -> Option<&mut F> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        slot.held.as_mut().map(|held| &mut held.flow)
    }

    /// Something moved.
    pub(super) fn touch(&mut self, key: FlowKey, now: Instant) {
        let Some(slot) = self.slots.get_mut(key.index as usize) else { return };
        if slot.generation != key.generation {
            return;
        }
        let Some(held) = &mut slot.held else { return };
        held.moved = now;
        if self.newest != key.index {
            self.unlink(key.index);
            self.append(key.index);
        }
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, key: FlowKey) -> Option<F> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let held = slot.held.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.unlink(key.index);
        self.by_client.remove(&held.client);
        self.free.push(key.index);
        Some(held.flow)
    }

    /// Takes out the flow that has been still for longest, if that is `idle` or more.
    pub(super) fn take_idle(&mut self, now: Instant, idle: Duration) -> Option<F> {
        let slot = self.slots.get(self.oldest as usize)?;
        let still = now.saturating_duration_since(slot.held.as_ref()?.moved);
        if still < idle {
            return None;
        }
        self.remove(FlowKey { index: self.oldest, generation: slot.generation })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// INVARIANT: a slot is in the list exactly while it holds a flow.
    fn append(&mut self, index: u32) {
        let before = self.newest;
        let slot = &mut self.slots[index as usize];
        (slot.older, slot.newer) = (before, NONE);
        match self.slots.get_mut(before as usize) {
            Some(before) => before.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let Slot { older, newer, .. } = self.slots[index as usize];
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    fn client(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], number))
    }

    #[test]
    fn the_longest_still_goes_first_and_none_before_its_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::default();
        let first = table.insert(client(1), 'a', at(0));
        table.insert(client(2), 'b', at(1));
        table.insert(client(3), 'c', at(2));
        table.touch(first, at(10));
        assert_eq!(table.take_idle(at(30), IDLE), None);
        assert_eq!(table.take_idle(at(31), IDLE), Some('b'));
        assert_eq!(table.take_idle(at(31), IDLE), None);
        assert_eq!(table.take_idle(at(40), IDLE), Some('c'));
        assert_eq!(table.take_idle(at(40), IDLE), Some('a'));
        assert_eq!((table.take_idle(at(99), IDLE), table.len()), (None, 0));
    }

    #[test]
    fn a_key_names_nothing_once_its_flow_has_gone() {
        let now = Instant::now();
        let mut table = Table::default();
        let old = table.insert(client(1), 'a', now);
        assert_eq!(table.remove(old), Some('a'));
        let new = table.insert(client(1), 'b', now);
        assert_eq!(old.index, new.index);
        assert_eq!(table.get_mut(old), None);
        assert_eq!(table.remove(old), None);
        table.touch(old, now + IDLE);
        assert_eq!(table.take_idle(now + IDLE, IDLE), Some('b'));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Datagram(u16),
        Remove(u16),
        Sweep,
    }

    proptest! {
        /// Against a list that is searched from end to end.
        #[test]
        fn behaves_as_a_plain_list(acts in proptest::collection::vec((0u64..20, prop_oneof![
            6 => (0u16..12).prop_map(Act::Datagram),
            1 => (0u16..12).prop_map(Act::Remove),
            2 => Just(Act::Sweep),
        ]), 0..300)) {
            let mut now = Instant::now();
            let mut table = Table::default();
            let mut plain: Vec<(u16, Instant)> = Vec::new();
            for (passed, act) in acts {
                now += Duration::from_secs(passed);
                match act {
                    Act::Datagram(who) => {
                        let known = plain.iter().position(|it| it.0 == who);
                        let found = table.find(&client(who));
                        prop_assert_eq!(known.is_some(), found.is_some());
                        match found {
                            Some(key) => {
                                prop_assert_eq!(table.get_mut(key).copied(), Some(who));
                                table.touch(key, now);
                            }
                            None => drop(table.insert(client(who), who, now)),
                        }
                        plain.retain(|it| it.0 != who);
                        plain.push((who, now));
                    }
                    Act::Remove(who) => {
                        let removed = table.find(&client(who)).and_then(|key| table.remove(key));
                        let known = plain.iter().position(|it| it.0 == who).map(|at| plain.remove(at).0);
                        prop_assert_eq!(removed, known);
                    }
                    Act::Sweep => {
                        let gone: Vec<_> = std::iter::from_fn(|| table.take_idle(now, IDLE)).collect();
                        let idle = |it: &&(u16, Instant)| now - it.1 >= IDLE;
                        let wanted: Vec<_> = plain.iter().filter(idle).map(|it| it.0).collect();
                        plain.retain(|it| !idle(&it));
                        prop_assert_eq!(gone, wanted);
                    }
                }
                prop_assert_eq!(table.len(), plain.len());
                // Slots are used again: there are never more than there were flows at once.
                prop_assert!(table.slots.len() <= 12);
            }
        }
    }
}
