//! The path from a probe to a router in virtual time: the real roster, ledger and Adj-RIB-Out, driven as
//! their drivers do, and one backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use edgeproxy::announce::addresses::Bound;
use edgeproxy::announce::facts::Leaving;
use edgeproxy::announce::lease::{DataPath, Workers};
use edgeproxy::announce::ledger::{Drains, Inputs, Ledger, Plan};
use edgeproxy::config::anycast::{Anycast, AnycastPrefix, Damping, Drain, Intent};
use edgeproxy::config::bgp::Attributes;
use edgeproxy::config::health::Health;
use edgeproxy::config::proxy::Lease;
use edgeproxy::config::services::{Backend, Check, Probe, Service, Watermark};
use edgeproxy::health::roster::{CheckId, JobId, Roster};
use edgeproxy::health::{Failure, HealthPlan, HealthView, Outcome, Verdict};
use edgeproxy::observe::journal::CauseIds;

use super::neighbor::Neighbor;

/// To the backend and back.
const ROUND_TRIP: Duration = Duration::from_micros(200);
/// How often the prober renews its view when nothing changes.
const VIEW_EVERY: Duration = Duration::from_millis(750);

/// How a backend is checked.
#[derive(Debug, Clone, Copy)]
pub struct Checked {
    pub interval: Duration,
    pub fast: Duration,
    pub timeout: Duration,
    pub held: bool,
}

/// What a backend does while it is down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Death {
    Refuses,
    /// Nothing ends either.
    IsSilent,
}

/// Up until `from`; then down and up by turns, `half` each; as it ends from `until` on.
#[derive(Debug, Clone, Copy)]
pub struct Wave {
    pub half: Duration,
    pub from: Instant,
    pub until: Instant,
    pub ends_up: bool,
}

impl Wave {
    fn is_up(&self, at: Instant) -> bool {
        if at >= self.until {
            self.ends_up
        } else {
            let turns =
                at.checked_duration_since(self.from).map(|since| since.as_nanos() / self.half.as_nanos());
            turns.is_none_or(|turns| turns % 2 == 1)
        }
    }

    /// When it may turn next.
    fn next_turn(&self, now: Instant) -> Option<Instant> {
        if now < self.from || now >= self.until {
            return (now < self.from).then_some(self.from);
        }
        let turns = (now - self.from).as_nanos() / self.half.as_nanos() + 1;
        Some((self.from + self.half * u32::try_from(turns).expect("few turns")).min(self.until))
    }
}

/// Everything between the backend and the router.
pub struct Path {
    now: Instant,
    death: Death,
    wave: Wave,
    roster: Roster,
    /// Answers under way.
    answers: BTreeMap<(Instant, JobId), Outcome>,
    /// Held connections being opened.
    opening: BTreeSet<(Instant, CheckId)>,
    held: BTreeSet<CheckId>,
    view: HealthView,
    plan: Plan,
    ledger: Ledger,
    neighbor: Neighbor,
    verdicts: Vec<(Instant, Verdict)>,
}

impl Path {
    pub fn new(checked: Checked, death: Death, wave: Wave, now: Instant) -> Self {
        let mut roster = Roster::new(7, CauseIds::new(1, 0));
        roster.apply_plan(&health_plan(checked), now);
        let plan = plan();
        Self {
            now,
            death,
            wave,
            roster,
            answers: BTreeMap::new(),
            opening: BTreeSet::new(),
            held: BTreeSet::new(),
            view: HealthView::empty(now),
            plan,
            ledger: Ledger::new(CauseIds::new(1, 1)),
            neighbor: Neighbor::new(),
            verdicts: Vec::new(),
        }
    }

    /// Lets time pass, with all that happens in it.
    pub fn run(&mut self, until: Instant) {
        loop {
            self.ask();
            self.publish();
            let next = self.next_event();
            if next > until {
                self.now = until;
                return;
            }
            let was_up = self.wave.is_up(self.now);
            self.now = next;
            self.arrive(was_up);
        }
    }

    /// Whether the router has all prefixes; they always go together here.
    pub fn is_announced(&self) -> bool {
        let mut has = self.plan.anycast.keys().map(|prefix| self.neighbor.has(prefix));
        let first = has.next().expect("there are prefixes");
        assert!(has.all(|other| other == first));
        first
    }

    /// The UPDATEs for each prefix: when, and whether they announced it.
    pub fn updates_since(&self, since: Instant) -> Vec<Vec<(Instant, bool)>> {
        self.plan.anycast.keys().map(|prefix| self.neighbor.told_since(prefix, since)).collect()
    }

    /// When the backend was found down, and when up.
    pub fn verdicts_since(&self, since: Instant) -> (Vec<Instant>, Vec<Instant>) {
        let verdicts = self.verdicts.iter().copied().filter(|(at, _)| *at >= since);
        let (up, down): (Vec<_>, Vec<_>) = verdicts.partition(|(_, verdict)| *verdict == Verdict::Up);
        (down.into_iter().map(|(at, _)| at).collect(), up.into_iter().map(|(at, _)| at).collect())
    }

    /// What the prober starts.
    fn ask(&mut self) {
        let is_up = self.wave.is_up(self.now);
        while let Some(check) = self.roster.poll_release() {
            self.held.remove(&check);
            self.opening.retain(|(_, opening)| *opening != check);
        }
        while let Some(job) = self.roster.poll_probe(self.now) {
            let outcome = match (is_up, self.death) {
                (true, _) => Outcome::Success { rtt: ROUND_TRIP },
                (false, Death::Refuses) => Outcome::Failure(Failure::Refused),
                (false, Death::IsSilent) => continue,
            };
            self.answers.insert((self.now + ROUND_TRIP, job.id), outcome);
        }
        while let Some(hold) = self.roster.poll_hold(self.now) {
            self.opening.insert((self.now + ROUND_TRIP, hold.check));
        }
    }

    /// What arrives by now.
    fn arrive(&mut self, was_up: bool) {
        let now = self.now;
        let is_up = self.wave.is_up(now);
        if was_up && !is_up && self.death == Death::Refuses {
            for check in std::mem::take(&mut self.held) {
                self.roster.handle_held_ended(check, now);
            }
        }
        while let Some(&(at, check)) = self.opening.first().filter(|(at, _)| *at <= now) {
            self.opening.remove(&(at, check));
            if is_up {
                self.held.insert(check);
                self.roster.handle_held_opened(check, now);
            } else {
                self.roster.handle_hold_failed(check, &Failure::Refused, now);
            }
        }
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, job), outcome) = entry.remove_entry();
            self.roster.handle_outcome(job, &outcome, now);
        }
        while self.roster.poll_overdue(now).is_some() {}
    }

    /// What the prober publishes, the announcer decides, and the speaker sends.
    fn publish(&mut self) {
        let now = self.now;
        let is_due = now >= self.view.as_of + VIEW_EVERY || self.view.services.is_empty();
        if is_due {
            self.roster.handle_sweep(now);
        }
        let is_news = self.roster.take_changes().view || is_due;
        if is_news {
            self.view = self.roster.view(now);
        }
        let turned = self.roster.take_turned();
        self.verdicts.extend(turned.into_iter().map(|turned| (now, turned.verdict)));
        if !is_news && self.ledger.next_deadline(&self.plan).is_none_or(|deadline| deadline > now) {
            return;
        }
        let before = self.ledger.wanted().revision();
        let inputs = Inputs {
            plan: &self.plan,
            view: &self.view,
            // The prefix has no address of its own.
            bound: &Bound::new(),
            drains: &Drains::new(),
            // And the proxy serves nothing.
            data_path: &DataPath { workers: Workers::Unproven { worker: 0 }, paths: None },
            heard: None,
            leaving: Leaving::No,
            command: None,
        };
        self.ledger.judge(inputs, now);
        if self.ledger.wanted().revision() != before {
            self.neighbor.sync(self.ledger.wanted(), now);
        }
    }

    fn next_event(&self) -> Instant {
        let answer = self.answers.keys().next().map(|(at, _)| *at);
        let opened = self.opening.first().map(|(at, _)| *at);
        let wakes = [
            self.roster.next_deadline(),
            self.ledger.next_deadline(&self.plan),
            self.wave.next_turn(self.now),
            answer,
            opened,
        ];
        wakes.into_iter().flatten().fold(self.view.as_of + VIEW_EVERY, Instant::min)
    }
}

fn health_plan(checked: Checked) -> HealthPlan {
    let Checked { interval, fast, timeout, held } = checked;
    let backend = Backend {
        id: "web-1".to_owned(),
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)),
        port: 80,
        pop: None,
        via_ingress: false,
        region: "sa".to_owned(),
        weight: 2,
        soft_limit: 100,
        hard_limit: 150,
        country: None,
        drain: false,
    };
    let check = Check {
        probe: Probe::Tcp,
        interval,
        fast_interval: fast,
        timeout,
        rise: 2,
        fall: 3,
        source: None,
        port: None,
        held_connection: held,
    };
    let service = Service {
        name: "web".to_owned(),
        watermark: Watermark::default(),
        backends: vec![backend],
        from_fleet: false,
        check,
        listen: Vec::new(),
        forwarding: edgeproxy::config::services::Forwarding::default(),
    };
    HealthPlan { limits: Health::default(), services: BTreeMap::from([("web".to_owned(), service)]) }
}

/// Two prefixes, one of each family, of the one service.
fn plan() -> Plan {
    let anycast = |text: &str| {
        let prefix = AnycastPrefix::new(text.parse().expect("a network")).expect("without host bits");
        let anycast = Anycast {
            prefix,
            addresses: Vec::new(),
            device: "lo".to_owned(),
            services: vec!["web".to_owned()],
            state: Intent::Up,
            attributes: Attributes::default(),
            degrade: Attributes::default(),
            drain: Drain::default(),
            min_announcers: 1,
            damping: Some(Damping::default()),
        };
        (prefix, anycast)
    };
    Plan {
        anycast: BTreeMap::from(["198.51.100.0/24", "2001:db8:7::/48"].map(anycast)),
        watermarks: BTreeMap::from([("web".to_owned(), Watermark::default())]),
        listens: BTreeMap::new(),
        lease: Lease::default(),
        max_age: Health::default().max_age,
        graceful: Duration::ZERO,
    }
}
