//! What operators read.

use super::*;
use crate::admin::TellsNeighbor;
use crate::observe::samples::{decision, entry};
use crate::observe::status::PendingStatus;

#[test]
fn ages_are_read_at_a_glance() {
    for (milliseconds, text) in [
        (0, "0ms"),
        (999, "999ms"),
        (1_250, "1.2s"),
        (59_999, "59s"),
        (312_000, "5m 12s"),
        (7_260_000, "2h 1m"),
        (93_784_000, "1d 2h"),
        (u64::MAX, "213503982334d 14h"),
    ] {
        assert_eq!(age(milliseconds), text);
    }
}

#[test]
fn one_screen_says_it_all() {
    let screen = status(&Status::sample());
    let expected = "\
edgeproxy 0.1.0 at gru1 (region sa): running, generation 7, up 1d 2h, pid 4242

Warning: the certificate of web at 198.51.100.1:443 (b.example, *.b.example): ends in 1 day: renew it.
Warning: the certificate of web at 198.51.100.1:443 (c.example, *.c.example): ended 2 hours ago.
Warning: the certificate of web at 198.51.100.1:443 (d.example, *.d.example): self-signed.

PREFIX               STATE      SINCE   WHY
198.51.100.0/24      announced  5m 10s  all its services are up
2001:db8:100::/48    withdrawn  5m 10s  all its services are up
2001:db8:100:1::/64  held       5m 10s  all its services are up; 198.51.100.1 is not on lo (no such device)

NEIGHBOR   ADDRESS    AS     STATE        SINCE   SENT  PROBLEM
transit-a  192.0.2.1  64500  Established  5m 12s  1     -
transit-b  192.0.2.2  64500  Active       5m 12s  0     connection refused: is BGP running there?

SERVICE  STATE  SINCE  HEALTHY  MARKS                   BACKENDS NOT UP
web      up     1m 1s  2/6      low 1 high 2 degrade 3  web-2 (connection refused), web-3 (unproven)
";
    assert_eq!(screen, expected);
}

#[test]
fn a_refused_reload_is_shown_until_one_succeeds() {
    let mut document = Status::sample();
    document.process.refused_reload = Some("f.yaml:2:1: speed: unknown\n    hint: none".into());
    let screen = status(&document);
    assert!(screen.contains("was refused; generation 7 stays in force:\n  f.yaml:2:1: speed"), "{screen}");
}

#[test]
fn a_hung_thread_is_shown() {
    let mut document = Status::sample();
    document.process.hung_threads = vec!["health".into()];
    assert!(status(&document).contains("\nThese threads hang: health.\n"));
}

#[test]
fn a_pending_configuration_is_shown_with_its_time_and_so_is_its_end() {
    let mut document = Status::sample();
    document.process.pending = Some(PendingStatus { generation: 8, confirm_within_ms: 272_000, back_to: 7 });
    let screen = status(&document);
    let expected =
        "\nGeneration 8 waits for `edgeproxy confirm`; otherwise generation 7 comes back in 4m 32s.\n";
    assert!(screen.contains(expected), "{screen}");
    document.process.pending = None;
    document.process.undone = Some("generation 8 was not confirmed".into());
    assert!(status(&document).contains("\nUndone: generation 8 was not confirmed\n"));
}

#[test]
fn an_empty_process_has_a_screen_too() {
    let screen = status(&Status::default());
    assert!(screen.contains("No neighbors are configured.\n"), "{screen}");
    assert_eq!(health(&[]), "No services are configured.\n");
}

#[test]
fn an_explanation_does_not_pass_old_words_for_new_ones() {
    let Status { mut prefixes, services, .. } = Status::sample();
    let mut prefix = prefixes.remove(0);
    prefix.reason = "health-stale".into();
    prefix.services = vec!["web".into(), "new".into()];
    let explanation = Explanation { prefix, services, neighbors: Vec::new(), history: Vec::new() };
    let screen = explain(&explanation);
    let silent = "\nThe checks are silent. The last they said, with its ages of then:\n\nweb: up for 1m 1s";
    assert!(screen.contains(silent) && screen.contains("\nnew: no check has spoken yet\n"), "{screen}");
}

#[test]
fn an_explanation_says_what_the_data_path_proves() {
    let Status { prefixes, .. } = Status::sample();
    let screens = prefixes.into_iter().map(|prefix| {
        let (services, neighbors, history) = (Vec::new(), Vec::new(), Vec::new());
        explain(&Explanation { prefix, services, neighbors, history })
    });
    let lines = screens.map(|screen| {
        let line = screen.lines().find(|line| line.contains("lease of"));
        line.map(str::to_owned)
    });
    let expired = "  lease of the data path: expired: worker 1 has served nothing for 60 ms (lease 60 ms); \
                       the oldest renewal was 4084 ms ago (lease 60 ms)";
    let valid = "  lease of the data path: valid; the oldest renewal was 12 ms ago (lease 60 ms)";
    assert_eq!(lines.collect::<Vec<_>>(), [None, Some(expired.to_owned()), Some(valid.to_owned())]);
}

#[test]
fn an_explanation_goes_from_the_decision_to_the_wire() {
    let Status { mut prefixes, services, neighbors, .. } = Status::sample();
    let neighbors = neighbors.into_iter().map(|n| TellsNeighbor {
        name: n.name.clone(),
        address: n.address.clone(),
        state: n.state.clone(),
        problem: n.problem.clone(),
        sent: n.announced.last().cloned(),
    });
    let history = vec![entry(7, Some("69220f3a000012"), decision("198.51.100.0/24", "announced"))];
    let (prefix, neighbors) = (prefixes.remove(0), neighbors.collect());
    let explanation = Explanation { prefix, services, neighbors, history };
    let screen = explain(&explanation);
    for part in [
        "198.51.100.0/24 is announced for 5m 10s (healthy)\n  why: all its services are up\n",
        "  what would change it: web falling to weight 1 or less withdraws it\n",
        "  address 198.51.100.1 on lo: put there by edgeproxy\n",
        "web: up for 1m 1s, healthy weight 2 of 6 (low 1 high 2 degrade 3)\n",
        "1.2ms",
        "5m 10s ago: next hop 192.0.2.10, path 64512 64512, MED 50, communities 64512:100\n",
        "nothing: connection refused: is BGP running there?\n",
        "\nWhat happened:\n2026-11-22T23:59:01.123Z 69220f3a000012 198.51.100.0/24 announced (below-",
    ] {
        assert!(screen.contains(part), "{part:?} is missing in\n{screen}");
    }
}
