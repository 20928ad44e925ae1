//! Where a client would be taken, as a screen for people.

use std::fmt::Write;

use super::{age, round_trip, shown};
use crate::admin::table::Table;
use crate::observe::status::choice::{CandidateStatus, ChoiceStatus};

/// The choice, and every backend with its score and with why it is not the one.
#[must_use]
pub fn choice(it: &ChoiceStatus) -> String {
    let mut screen = format!("{}\n", outcome(it));
    if !it.listens {
        let _ = writeln!(
            screen,
            "  {} has no `listen`: nobody comes in, and this is only how it would be",
            it.service
        );
    }
    let _ = writeln!(screen, "  client: {}", client(it));
    let _ = writeln!(screen, "  affinity: {}", affinity(it));
    if it.panic {
        let _ = writeln!(
            screen,
            "  panic: too few backends are healthy to believe it, so all are used but those that drain or are full"
        );
    }
    let usable = it.backends.iter().filter(|candidate| is_usable(candidate)).count();
    if usable > 1 && it.attempts > 1 {
        let _ = writeln!(
            screen,
            "  if it does not answer: the next of this list, {} attempts in all",
            it.attempts.min(u32::try_from(usable).unwrap_or(u32::MAX))
        );
    }
    let mut table = Table::new([
        "BACKEND", "ADDRESS", "REGION", "CHANCE", "SCORE", "GEO", "FAR", "LOAD", "WEIGHT", "OPEN", "RTT",
        "WHY",
    ]);
    for candidate in &it.backends {
        table.row([
            &candidate.id,
            &candidate.address,
            &candidate.region,
            &if candidate.chance > 0.0 { percent(candidate.chance) } else { String::new() },
            &number(candidate.score),
            &candidate.geo.to_string(),
            &candidate.far.to_string(),
            &number(candidate.load),
            &weight(candidate),
            &places(candidate),
            &candidate.rtt_us.map(round_trip).unwrap_or_default(),
            &why(it, candidate),
        ]);
    }
    let _ = write!(screen, "\n{}", shown(&table, "The service has no backends."));
    let _ = writeln!(
        screen,
        "\nSCORE is GEO + FAR + LOAD, and the lowest wins; among equals each has a chance by its WEIGHT.\n\
         GEO: 0 in the client's country, 100 in its region, 200 in this POP's region ({}), 300 elsewhere. FAR: 10 for\n\
         each 20 ms to its region, 90 at most. LOAD: OPEN over the soft limit and WEIGHT.",
        it.pop_region
    );
    screen
}

fn outcome(it: &ChoiceStatus) -> String {
    let likely: Vec<_> = it.backends.iter().filter(|candidate| candidate.chance > 0.0).collect();
    let (service, client) = (&it.service, &it.client);
    match likely.as_slice() {
        [] => {
            let is_full = it.backends.iter().any(|candidate| candidate.why_not.as_deref() == Some("full"));
            let why = if is_full { "no backend that is up has room" } else { "no backend may be used" };
            format!("{service} would send {client} away: {why}")
        }
        [one] => {
            let why = match one.why.as_deref() {
                Some("bound") => "it is bound to that one",
                Some("trial") => "the best score, and the trial after its ejection",
                Some("panic") => "the best score among all, whatever their health",
                _ => "the best score",
            };
            format!("{service} would take {client} to {}: {why}", one.id)
        }
        several => {
            let words: Vec<_> =
                several.iter().map(|one| format!("{} ({})", one.id, percent(one.chance))).collect();
            format!("{service} would take {client} to {}: equal scores, by weight", words.join(" or "))
        }
    }
}

fn client(it: &ChoiceStatus) -> String {
    let region = it.region.as_ref().map(|region| format!(", region {region}")).unwrap_or_default();
    match &it.country {
        Some(country) => format!("in country {country}{region}"),
        None if it.has_geo => "nobody knows where: it is not in the database of `proxy.geo`".to_owned(),
        None => "nobody knows where: there is no `proxy.geo`".to_owned(),
    }
}

fn affinity(it: &ChoiceStatus) -> String {
    let Some(affinity) = &it.affinity else { return "off".to_owned() };
    let (Some(id), Some(left)) = (&affinity.backend, affinity.left_ms) else {
        return format!("{} is not bound yet, and then is for {}", it.source, age(affinity.ttl_ms));
    };
    let refused = it.backends.iter().find(|candidate| candidate.id == *id && candidate.chance == 0.0);
    let refused = refused.map(|candidate| format!("; but that one may not be used: {}", why(it, candidate)));
    format!(
        "{} is bound to {id} for {} more, and longer if it comes again{}",
        it.source,
        age(left),
        refused.unwrap_or_default()
    )
}

fn is_usable(candidate: &CandidateStatus) -> bool {
    matches!(candidate.why_not.as_deref(), None | Some("bound-elsewhere" | "farther" | "fuller"))
}

/// Why it is the one, or why it is not.
fn why(it: &ChoiceStatus, candidate: &CandidateStatus) -> String {
    let since = candidate.since_ms.map(|since| format!(" for {}", age(since))).unwrap_or_default();
    let error = candidate.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    match candidate.why_not.as_deref() {
        None => candidate.why.clone().unwrap_or_default(),
        Some("draining") => "drains: it gets nothing new".to_owned(),
        Some("down") => format!("down{since}{error}"),
        Some("unproven") => format!("not proven up yet{error}"),
        Some("ejected") => {
            format!("ejected for {} more: it failed its clients", age(candidate.ejected_ms.unwrap_or(0)))
        }
        Some("on-trial") => "it was ejected, and a connection tries it already".to_owned(),
        Some("full") => format!("at its hard limit {}", candidate.hard_limit),
        Some("bound-elsewhere") => {
            let bound = it.affinity.as_ref().and_then(|affinity| affinity.backend.as_deref());
            format!("the client is bound to {}", bound.unwrap_or("another"))
        }
        Some("farther") => "farther".to_owned(),
        Some("fuller") => "more load for its weight".to_owned(),
        Some(other) => other.to_owned(),
    }
}

fn weight(candidate: &CandidateStatus) -> String {
    match candidate.slow_start_ms {
        Some(left) => {
            format!("{} of {} ({} left)", number(candidate.weight_now), candidate.weight, age(left))
        }
        None => candidate.weight.to_string(),
    }
}

fn places(candidate: &CandidateStatus) -> String {
    let hard = if candidate.hard_limit == 0 { "any".to_owned() } else { candidate.hard_limit.to_string() };
    format!("{} of {}/{hard}", candidate.open, candidate.soft_limit)
}

fn percent(chance: f64) -> String {
    format!("{:.0} %", chance * 100.0)
}

/// With as many digits as it takes to tell two loads apart.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    #[test]
    fn every_backend_has_its_reason() {
        let screen = choice(&samples::choice());
        for part in [
            "web would take 203.0.113.7 to web-1: it is bound to that one\n",
            "  client: in country br, region sa\n",
            "  affinity: 203.0.113.7 is bound to web-1 for 9m 12s more, and longer if it comes again\n",
            "  if it does not answer: the next of this list, 2 attempts in all\n",
            "web-1    10.0.0.1:8080  sa      100 %   100.005  100  0    0.005  0.5 of 2 (7.5s left)  1 of 100/150  500us",
            "down for 5m 2s: connection refused\n",
            "ejected for 8.0s more: it failed its clients\n",
            "the client is bound to web-1\n",
            "this POP's region (sa)",
        ] {
            assert!(screen.contains(part), "{part:?} is missing in\n{screen}");
        }
    }

    #[test]
    fn the_outcome_in_words() {
        let mut it = samples::choice();
        let affinity = it.affinity.as_mut().unwrap();
        (affinity.backend, affinity.left_ms) = (Some("web-2".into()), Some(1_000));
        for (index, chance) in [(0, 0.25), (3, 0.75)] {
            let candidate = &mut it.backends[index];
            (candidate.chance, candidate.why, candidate.why_not) = (chance, Some("best".into()), None);
        }
        (it.country, it.region, it.has_geo, it.listens) = (None, None, false, false);
        let screen = choice(&it);
        for part in [
            "to web-1 (25 %) or web-4 (75 %): equal scores, by weight\n",
            "  web has no `listen`: nobody comes in",
            "nobody knows where: there is no `proxy.geo`",
            "bound to web-2 for 1.0s more, and longer if it comes again; but that one may not be used: down for 5m 2s",
        ] {
            assert!(screen.contains(part), "{part:?} is missing in\n{screen}");
        }
        for candidate in &mut it.backends {
            (candidate.chance, candidate.why, candidate.why_not) = (0.0, None, Some("down".into()));
        }
        assert!(choice(&it).starts_with("web would send 203.0.113.7 away: no backend may be used\n"));
        it.backends[2].why_not = Some("full".into());
        it.backends[2].hard_limit = 150;
        let screen = choice(&it);
        assert!(screen.contains("away: no backend that is up has room\n"), "{screen}");
        assert!(screen.contains("at its hard limit 150\n"), "{screen}");
        it.affinity = None;
        it.backends.clear();
        let screen = choice(&it);
        assert!(screen.contains("affinity: off\n") && screen.contains("has no backends"), "{screen}");
    }
}
