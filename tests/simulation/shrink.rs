//! Finds a shorter sequence that fails too, crudely: by leaving out events.

/// Leaves out what is not needed for `fails`: halves, quarters, … and then single events, as long as that helps.
pub fn shrink<T: Clone>(mut events: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut size = events.len() / 2;
    while size > 0 {
        let before = events.len();
        let mut from = 0;
        while from < events.len() {
            let mut fewer = events.clone();
            fewer.drain(from..(from + size).min(events.len()));
            if fails(&fewer) {
                events = fewer;
            } else {
                from += size;
            }
        }
        // Once more with single events, as one may have been needed for another.
        if size > 1 || events.len() == before {
            size /= 2;
        }
    }
    events
}

#[test]
fn what_is_not_needed_is_left_out() {
    let fails = |events: &[u32]| events.contains(&7) && events.contains(&40);
    assert_eq!(shrink((0..100).collect(), fails), [7, 40]);
}
