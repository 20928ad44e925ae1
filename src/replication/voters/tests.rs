//! Promises of voters in order and out of it: most of them, once each, for one drain.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn origin(name: &str) -> Origin {
    Origin::new(name).unwrap()
}

fn names(names: &[&str]) -> BTreeSet<Origin> {
    names.iter().map(|name| origin(name)).collect()
}

fn prefix() -> IpNetwork {
    "198.51.100.0/24".parse().unwrap()
}

fn permit(number: u64) -> PermitId {
    PermitId { incarnation: 1 << 20, number }
}

fn ask(number: u64) -> Word {
    Word::Ask { prefix: prefix(), permit: permit(number), min_announcers: 1 }
}

fn holds(up_to: u64, permits: &[u64]) -> Word {
    let permits = permits.iter().map(|number| (prefix(), permit(*number))).collect();
    Word::Holds { up_to: permit(up_to), permits }
}

/// One that has not lost anything.
fn voter() -> Voter {
    Voter::new(Some(&Voter::default().octets()))
}

fn say(voter: &mut Voter, from: &str, word: &Word, announcing: &[&str]) -> Reply {
    let (members, announcing) = (names(&["a", "b", "c"]), names(announcing));
    voter.handle(&origin(from), word, Known { members: &members, announcing: &announcing }).reply
}

fn is_refused(reply: &Reply) -> bool {
    matches!(reply, Reply::Refused(_))
}

#[test]
fn whoever_holds_a_permit_is_not_counted_for_the_next() {
    let mut voter = voter();
    assert_eq!(say(&mut voter, "a", &ask(1), &["a", "b", "c"]), Reply::Granted);
    assert_eq!(say(&mut voter, "a", &ask(1), &[]), Reply::Granted, "said twice");
    assert_eq!(say(&mut voter, "b", &ask(1), &["a", "b", "c"]), Reply::Granted);
    let Reply::Refused(why) = say(&mut voter, "c", &ask(1), &["a", "b", "c"]) else { panic!("granted") };
    assert!(why.contains("announced by nobody") && why.contains("a, b may drain it"), "{why}");
    // One comes back.
    assert_eq!(say(&mut voter, "a", &holds(1, &[]), &[]), Reply::Noted);
    assert_eq!(say(&mut voter, "c", &ask(2), &["a", "b", "c"]), Reply::Granted);
}

#[test]
fn what_is_late_or_said_twice_promises_nothing() {
    let mut voter = voter();
    assert_eq!(say(&mut voter, "a", &holds(4, &[]), &[]), Reply::Noted);
    assert!(is_refused(&say(&mut voter, "a", &ask(4), &["b"])));
    assert_eq!(say(&mut voter, "a", &ask(5), &["b"]), Reply::Granted);
    assert!(is_refused(&say(&mut voter, "a", &ask(3), &["b"])));
    // What it said before does not end what it was granted since.
    assert_eq!(say(&mut voter, "a", &holds(3, &[]), &[]), Reply::Noted);
    assert_eq!(voter.promises().count(), 1);
    assert_eq!(say(&mut voter, "a", &holds(4, &[5]), &[]), Reply::Noted);
    assert_eq!(voter.promises().count(), 1);
    assert_eq!(say(&mut voter, "a", &holds(5, &[]), &[]), Reply::Noted);
    assert_eq!(voter.promises().count(), 0);
}

#[test]
fn who_has_lost_its_promises_learns_them_before_it_gives_new_ones() {
    let mut voter = Voter::new(None);
    assert!(is_refused(&say(&mut voter, "a", &ask(9), &["a", "b", "c"])));
    say(&mut voter, "a", &holds(8, &[]), &[]);
    say(&mut voter, "b", &holds(3, &[2]), &[]);
    // Half of it is kept, and it is still known that half is missing.
    voter = Voter::new(Some(&voter.octets()));
    assert_eq!(voter.unheard(&names(&["a", "b", "c"])).len(), 3);
    say(&mut voter, "a", &holds(8, &[]), &[]);
    say(&mut voter, "b", &holds(3, &[2]), &[]);
    say(&mut voter, "c", &holds(1, &[]), &[]);
    assert!(is_refused(&say(&mut voter, "a", &ask(9), &["a", "b"])), "b drains it");
    assert_eq!(say(&mut voter, "a", &ask(10), &["a", "b", "c"]), Reply::Granted);
}

#[test]
fn most_of_the_voters_must_agree_and_who_is_missing_is_named() {
    let now = Instant::now();
    let voters: Vec<Origin> = ["a", "b", "c"].map(origin).to_vec();
    let mut holder = Holder::new(voters, 7, BTreeMap::new());
    let question = Ask { prefix: prefix(), min_announcers: 1 };
    assert!(holder.handle_request(1, vec![question]));
    assert!(!holder.handle_request(2, vec![question]), "one after the other");
    let (_, first, to) = holder.poll_ask(now).unwrap();
    assert_eq!(to.len(), 3);
    let Word::Holds { up_to, permits } = holder.holds() else { panic!("asks") };
    assert!(up_to < first && permits[&prefix()] == first, "it is on its way");
    holder.handle_reply(&origin("a"), first, Some(Reply::Granted));
    holder.handle_reply(&origin("a"), first, Some(Reply::Granted));
    holder.handle_reply(&origin("x"), first, Some(Reply::Granted));
    assert_eq!(holder.poll_done(), None, "one is not a majority, however often it says so");
    holder.handle_reply(&origin("c"), first, Some(Reply::Refused("b drains it".to_owned())));
    holder.handle_timeout(now + Duration::from_secs(3));
    let Some(Err(why)) = holder.poll_done() else { panic!("granted") };
    assert!(why.contains("1 of 3 voters") && why.contains("b: it has not answered"), "{why}");
    assert!(why.contains("c: b drains it"), "{why}");

    assert!(holder.handle_request(2, vec![question]));
    let (_, second, _) = holder.poll_ask(now).unwrap();
    holder.handle_reply(&origin("b"), first, Some(Reply::Granted));
    holder.handle_reply(&origin("b"), second, Some(Reply::Granted));
    holder.handle_reply(&origin("c"), second, Some(Reply::Granted));
    assert_eq!(holder.poll_done(), Some(Ok(BTreeMap::from([(prefix(), second)]))));
    // Not seen in what is held yet, and told all the same.
    holder.handle_held(&Held { answered: 1, permits: BTreeMap::new() });
    let Word::Holds { up_to, permits } = holder.holds() else { panic!("asks") };
    assert!(up_to == second && permits[&prefix()] == second);
    holder.handle_held(&Held { answered: 2, permits: BTreeMap::new() });
    let Word::Holds { permits, .. } = holder.holds() else { panic!("asks") };
    assert!(permits.is_empty(), "it was not held on to");
}

proptest! {
    #[test]
    fn what_is_kept_and_said_is_read_again(
        permits in prop::collection::btree_map(0u32..400, (any::<u64>(), any::<u64>()), 0..50),
        why in "[ -~]{0,200}",
    ) {
        let network = |number: u32| -> IpNetwork {
            let text = if number.is_multiple_of(2) { format!("10.1.{}.0/24", number / 2) } else { format!("2001:db8:{number:x}::/48") };
            text.parse().unwrap()
        };
        let permits: BTreeMap<_, _> = permits
            .into_iter()
            .map(|(number, (incarnation, counted))| (network(number), PermitId { incarnation, number: counted }))
            .collect();
        let word = Word::Holds { up_to: permit(3), permits };
        prop_assert_eq!(&Word::read(&word.octets()).unwrap(), &word);
        prop_assert_eq!(Word::read(&ask(2).octets()).unwrap(), ask(2));
        for reply in [Reply::Granted, Reply::Refused(why), Reply::Noted] {
            prop_assert_eq!(Reply::read(&reply.octets()).unwrap(), reply);
        }
        let mut voter = voter();
        say(&mut voter, "a", &word, &[]);
        prop_assert_eq!(Voter::new(Some(&voter.octets())), voter);
    }

    #[test]
    fn garbage_is_refused_or_means_something(octets in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = (Word::read(&octets), Reply::read(&octets), Voter::read(&octets));
    }
}
