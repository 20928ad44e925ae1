//! The ledger against a model: what an origin has is what everybody gets, or nothing.

use proptest::prelude::*;

use super::super::own::Own;
use super::super::record::{Table, Value};
use super::*;

fn origin() -> Origin {
    Origin::new("gru1").unwrap()
}

fn key(key: u8) -> Key {
    Key { table: Table(3), key: vec![key].into() }
}

fn value(body: u8) -> Value {
    Value { kind: 1, revision: 1, body: vec![body; usize::from(body)].into() }
}

fn change(name: u8, body: Option<u8>) -> Change {
    Change { key: key(name), value: body.map(value) }
}

fn sign(head: Head) -> Signed {
    Signed { head, certificate: Vec::new().into(), signature: [0; 64] }
}

/// An origin with its ledger.
struct Writer {
    own: Own,
    ledger: Ledger,
}

impl Writer {
    fn new() -> Self {
        Self { own: Own::begin(origin(), 0, None, 1), ledger: Ledger::default() }
    }

    fn head(&self) -> Option<Head> {
        self.ledger.head(&origin()).map(|signed| signed.head.clone())
    }

    fn write(&mut self, changes: &[Change], floor: u64) -> Option<Offer> {
        let before = self.own.head(self.head().as_ref());
        let after = Some(before.point.version);
        let (head, rows) = self.ledger.prepare(before, changes, floor).unwrap()?;
        let offer = Offer { head: sign(head), after, rows };
        self.ledger.take(offer.clone()).unwrap().unwrap();
        Some(offer)
    }

    /// The process ends and begins again.
    fn restart(&mut self) {
        self.own = Own::begin(origin(), self.own.incarnation(), self.head().as_ref(), self.own.incarnation());
    }
}

fn live(ledger: &Ledger) -> BTreeMap<Key, Value> {
    let origin = origin();
    let rows = ledger.rows(&origin);
    rows.filter_map(|row| Some((row.key.clone(), row.value.clone()?))).collect()
}

#[test]
fn what_is_pushed_in_order_is_taken_and_what_is_known_is_not_taken_again() {
    let (mut writer, mut reader) = (Writer::new(), Ledger::default());
    let first = writer.write(&[change(1, Some(1)), change(2, Some(2))], 0).unwrap();
    let second = writer.write(&[change(1, Some(3)), change(2, None)], 0).unwrap();
    assert_eq!(reader.take(second.clone()), Err(Refusal::Gap { have: Point::default() }));
    assert_eq!(reader.take(first.clone()).unwrap().unwrap().rows.len(), 2);
    assert_eq!(reader.take(second.clone()).unwrap().unwrap().rows.len(), 2);
    assert_eq!(reader.take(first), Ok(None));
    assert_eq!(reader.take(second), Ok(None));
    assert_eq!(live(&reader), BTreeMap::from([(key(1), value(3))]));
    assert_eq!(reader.vector(), writer.ledger.vector());
    assert_eq!(reader.size(), writer.ledger.size());
}

#[test]
fn a_relay_can_neither_forge_nor_hide_nor_move() {
    let mut writer = Writer::new();
    let first = writer.write(&[change(1, Some(1)), change(2, Some(2)), change(3, Some(3))], 0).unwrap();
    let tampered = |tamper: &dyn Fn(&mut Offer)| {
        let mut offer = first.clone();
        tamper(&mut offer);
        let mut reader = Ledger::default();
        let refused = reader.take(offer);
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(reader.size(), (0, 0));
    };
    let forged = |body| Arc::new(Row { key: key(1), version: 1, value: Some(value(body)) });
    tampered(&|offer| offer.rows[0] = forged(9));
    tampered(&|offer| drop(offer.rows.remove(1)));
    tampered(&|offer| offer.rows.push(Arc::new(Row { key: key(9), version: 4, value: None })));
    tampered(&|offer| offer.rows.swap(0, 1));
    tampered(&|offer| offer.head.head.origin = Origin::new("fra1").unwrap());
    tampered(&|offer| offer.head.head.rows = 2);
}

#[test]
fn who_is_behind_the_floor_needs_all_rows() {
    let (mut writer, mut reader) = (Writer::new(), Ledger::default());
    reader.take(writer.write(&[change(1, Some(1)), change(2, Some(2))], 0).unwrap()).unwrap();
    let have = reader.head(&origin()).unwrap().head.point;
    writer.write(&[change(1, None)], 0);
    let collected = writer.write(&[], 3).unwrap();
    assert_eq!(writer.ledger.graves_up_to(&origin(), 99), 0);
    assert_eq!(reader.take(collected), Err(Refusal::Fork));
    let all = writer.ledger.lacking(&origin(), Some(have)).unwrap();
    assert_eq!(all.after, None);
    let applied = reader.take(all).unwrap().unwrap();
    assert_eq!((applied.rows.len(), applied.gone.len()), (0, 1));
    assert_eq!(live(&reader), live(&writer.ledger));
}

#[test]
fn who_is_over_its_quota_may_only_get_smaller() {
    let limits = Limits { rows: 2, ..Limits::default() };
    let mut writer = Writer::new();
    let mut reader = Ledger::new(limits);
    reader.take(writer.write(&[change(1, Some(1)), change(2, Some(2))], 0).unwrap()).unwrap();
    let more = writer.write(&[change(3, Some(3))], 0).unwrap();
    let refused = reader.take(more);
    assert_eq!(refused, Err(Refusal::Quota { origin: origin(), what: "rows", limit: 2 }));
    writer.ledger.limit(limits);
    let head = writer.own.head(writer.head().as_ref());
    assert!(writer.ledger.prepare(head.clone(), &[change(4, Some(4))], 0).is_err());
    assert!(writer.ledger.prepare(head.clone(), &[change(1, Some(9))], 0).is_ok());
    assert!(writer.ledger.prepare(head, &[change(1, None)], 0).is_ok());
    // Everybody together.
    let limits = Limits { total_rows: 4, ..Limits::default() };
    let mut reader = Ledger::new(limits);
    reader.take(writer.ledger.lacking(&origin(), None).unwrap()).unwrap();
    let mut other = Head { origin: Origin::new("fra1").unwrap(), ..writer.head().unwrap() };
    other.rows = 2;
    let offer = Offer { head: sign(other.clone()), after: None, rows: Vec::new() };
    assert_eq!(reader.take(offer), Err(Refusal::Total { origin: other.origin, what: "rows", limit: 4 }));
}

#[test]
fn two_histories_with_one_name_are_seen() {
    let (mut one, mut two, mut reader) = (Writer::new(), Writer::new(), Ledger::default());
    reader.take(one.write(&[change(1, Some(1))], 0).unwrap()).unwrap();
    let other = two.write(&[change(1, Some(2))], 0).unwrap();
    assert!(matches!(reader.take(other), Err(Refusal::Conflict(..))));
}

#[test]
fn a_restart_that_writes_nothing_is_an_incarnation_all_the_same() {
    let (mut writer, mut reader) = (Writer::new(), Ledger::default());
    reader.take(writer.write(&[change(1, Some(1))], 0).unwrap()).unwrap();
    writer.restart();
    let begun = writer.write(&[], 0).unwrap();
    assert!(begun.rows.is_empty());
    assert_eq!(reader.take(begun).unwrap(), Some(Applied::default()));
    assert_eq!(reader.vector(), writer.ledger.vector());
    assert_eq!(writer.write(&[], 0), None);
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(u8, Option<u8>)>),
    Floor(u8),
    Restart,
    /// This reader asks the writer, or another reader.
    Ask(usize, Option<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let write = prop::collection::vec((0..12u8, prop::option::of(0..40u8)), 1..5);
    prop_oneof![
        4 => write.prop_map(Step::Write),
        1 => (0..4u8).prop_map(Step::Floor),
        1 => Just(Step::Restart),
        4 => (0..3usize, prop::option::of(0..3usize)).prop_map(|(who, whom)| Step::Ask(who, whom)),
    ]
}

proptest! {
    /// However writes, restarts, collections and catching up follow each other: a reader has exactly a state that the
    /// writer once had, and after it has asked the writer, the last one.
    #[test]
    fn readers_have_what_the_writer_had(steps in prop::collection::vec(step(), 1..60)) {
        let mut writer = Writer::new();
        let mut readers = [Ledger::default(), Ledger::default(), Ledger::default()];
        let mut model = BTreeMap::new();
        let mut past = BTreeMap::new();
        for step in steps {
            match step {
                Step::Write(changes) => {
                    let changes: Vec<_> = changes.into_iter().map(|(name, body)| change(name, body)).collect();
                    for change in &changes {
                        match &change.value {
                            Some(value) => model.insert(change.key.clone(), value.clone()),
                            None => model.remove(&change.key),
                        };
                    }
                    writer.write(&changes, 0);
                }
                Step::Floor(behind) => {
                    let version = writer.head().map_or(0, |head| head.point.version);
                    writer.write(&[], version.saturating_sub(u64::from(behind)));
                }
                Step::Restart => writer.restart(),
                Step::Ask(who, whom) => {
                    let have = readers[who].head(&origin()).map(|signed| signed.head.point);
                    let asked = whom.map_or(&writer.ledger, |whom| &readers[whom]);
                    if let Some(offer) = asked.lacking(&origin(), have) {
                        let whole = asked.lacking(&origin(), None).unwrap();
                        if readers[who].take(offer) == Err(Refusal::Fork) {
                            readers[who].take(whole).unwrap();
                        }
                    }
                    if whom.is_none() {
                        prop_assert_eq!(readers[who].vector(), writer.ledger.vector());
                        prop_assert_eq!(readers[who].size(), writer.ledger.size());
                    }
                }
            }
            prop_assert_eq!(live(&writer.ledger), model.clone());
            if let Some(head) = writer.head() {
                past.insert(head.point, model.clone());
            }
            for reader in &readers {
                if let Some(head) = reader.head(&origin()) {
                    prop_assert_eq!(Some(&live(reader)), past.get(&head.head.point));
                }
            }
        }
    }
}

/// What another writer remembers of the same origin becomes part of what this one has.
fn reunite(writer: &mut Writer, theirs: &Ledger) -> Offer {
    let ours = writer.head();
    let seen = theirs.head(&origin()).unwrap().head.clone();
    assert_ne!(writer.own.handle_head(&seen, ours.as_ref(), true), super::super::own::Seen::Old);
    let before = writer.own.head_above(ours.as_ref(), &seen);
    let after = Some(ours.map_or(0, |ours| ours.point.version));
    let (head, rows) = writer.ledger.reunite(before, theirs).unwrap().unwrap();
    let offer = Offer { head: sign(head), after, rows };
    writer.ledger.take(offer.clone()).unwrap().unwrap();
    offer
}

#[test]
fn two_histories_become_one_that_continues_both() {
    let mut writer = Writer::new();
    for name in 1..=6 {
        writer.write(&[change(name, Some(1))], 0);
    }
    let image = Writer { own: writer.own.clone(), ledger: copy(&writer.ledger) };
    // What goes on, and is forgotten.
    writer.write(&[change(1, Some(2)), change(2, None), change(7, Some(2))], 0);
    let forgotten = writer;
    // The image begins again, and deletes so thoroughly that no tombstone is left.
    let mut restored = image;
    restored.own = Own::begin(origin(), 0, restored.head().as_ref(), 77);
    restored.write(&[change(3, Some(3)), change(4, None), change(7, Some(3))], 0);
    let end = restored.head().unwrap().point.version;
    restored.write(&[], end);
    let before = copy(&restored.ledger);
    reunite(&mut restored, &forgotten.ledger);
    let expected = [(1, 2), (3, 3), (5, 1), (6, 1), (7, 3)].map(|(name, body)| (key(name), value(body)));
    assert_eq!(live(&restored.ledger), BTreeMap::from(expected));
    let head = restored.head().unwrap();
    for state in [&before, &forgotten.ledger] {
        let have = state.head(&origin()).unwrap().head.point;
        assert!(head.continues(have) && head.holds(have), "{have}");
        let mut reader = copy(state);
        let delta = restored.ledger.lacking(&origin(), Some(have)).unwrap();
        assert_eq!(delta.after, Some(have.version));
        reader.take(delta).unwrap().unwrap();
        assert_eq!(reader.vector(), restored.ledger.vector());
    }
    // An image of the history that was given up is restored: it parts where it was made, and adds nothing.
    let mut again = Writer { own: forgotten.own.clone(), ledger: copy(&forgotten.ledger) };
    again.own = Own::begin(origin(), 0, again.head().as_ref(), 99);
    reunite(&mut again, &restored.ledger);
    assert_eq!(live(&again.ledger), live(&restored.ledger));
}

fn copy(ledger: &Ledger) -> Ledger {
    let mut copy = Ledger::default();
    copy.take(ledger.lacking(&origin(), None).unwrap()).unwrap();
    copy
}
