//! Backends at other POPs: our own probes, and the word of who owns them.

use super::*;
use crate::catalog::remote::Word;

/// What is said of backends `b0`, `b1`, … of `web`, at one moment.
fn said(words: &[Word], at: Instant) -> Said {
    let word = |(number, word): (usize, &Word)| (("web".into(), format!("b{number}").into()), word.clone());
    Said { as_of: Some(at), words: words.iter().enumerate().map(word).collect() }
}

#[test]
fn a_backend_at_another_pop_needs_its_word_and_our_own_probe() {
    let start = Instant::now();
    let plan = plan(1, 8, |service| {
        service.backends[0].pop = Some("fra1".into());
        service.check.held_connection = false;
    });
    let mut roster = roster(&plan, start);
    let now = bring_up(&mut roster, start);
    let state = |roster: &Roster, now| {
        let status = roster.status(now).swap_remove(0).backends.swap_remove(0);
        (status.verdict, status.error)
    };
    assert_eq!(state(&roster, now).0, "unproven", "nobody has spoken");
    roster.handle_said(&said(&[Word::Up], now), now);
    assert_eq!(state(&roster, now).0, "up");
    let down = said(&[Word::Down("the path to fra1 is silent for 0.4 s".into())], now);
    roster.handle_said(&down, now);
    assert_eq!(state(&roster, now), ("down".into(), Some("the path to fra1 is silent for 0.4 s".into())));
    let cause = roster.view(now).services["web"].cause.clone().unwrap();
    assert!(cause.error.contains("the path to fra1"), "{cause:?}");
    roster.handle_said(&said(&[Word::Up], now), now);
    assert_eq!(state(&roster, now).0, "up");
    // An old word is none, and a word does not heal what our own probe finds.
    let later = now + millis(3_500);
    roster.handle_said(&said(&[Word::Up], now), later);
    assert_eq!(state(&roster, later).0, "down");
    roster.handle_said(&said(&[Word::Up], later), later);
    answer(&mut roster, &REFUSED, later + millis(2_000));
    assert_eq!(state(&roster, later).0, "down", "our own probe is refused");
}

#[test]
fn a_word_about_a_backend_of_our_own_means_nothing() {
    let start = Instant::now();
    let mut roster = roster(&plan(1, 8, |_| {}), start);
    let now = bring_up(&mut roster, start);
    roster.handle_said(&said(&[Word::Down("no".into())], now), now);
    assert_eq!(roster.status(now)[0].backends[0].verdict, "up");
}
