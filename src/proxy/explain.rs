//! Where a client would be taken that came now, and why not elsewhere. Nothing is taken and nobody is bound by asking.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::affinity::Affinity;
use super::source::Source;
use super::why::How;
use crate::catalog::backend::{Backend, Verdict};
use crate::catalog::live::Standing;
use crate::catalog::select::{self, Candidate, Client, Rejection};
use crate::catalog::service::Service;
use crate::catalog::view::View;
use crate::observe::status::choice::{AffinityStatus, CandidateStatus, ChoiceStatus, UnknownService};

/// The choice for `client` as any worker would make it. `now_ms`: the same moment on the process's clock. `affinity` is
/// asked only if the service has one. Whether the service has listeners is left open.
///
/// # Errors
/// [`UnknownService`].
pub fn explain<'a>(
    view: &View,
    affinity: impl FnOnce() -> &'a Affinity,
    service: &str,
    client: IpAddr,
    now: Instant,
    now_ms: u64,
) -> Result<ChoiceStatus, UnknownService> {
    let client = client.to_canonical();
    let Some(service) = view.services.get(service) else {
        return Err(UnknownService(view.services.keys().map(ToString::to_string).collect()));
    };
    let located = view.geo.as_ref().map(|geo| geo.locate(client)).unwrap_or_default();
    let who = Client { source: client, country: located.country, region: located.region };
    let bound = service.forwarding.affinity.map(|ttl| {
        let binding = affinity().peek(&service.name, Source::of(client), ttl, now_ms);
        // Its backend may be gone from the configuration: then it is bound to nothing.
        let backend = binding.and_then(|(serial, left)| Some((service.position(serial)?, left)));
        (ttl, backend)
    });
    let bound_to = bound.and_then(|(_, backend)| Some(backend?.0));
    let choice = Choice::new(service, &view.region, &who, bound_to, now, now_ms);
    Ok(ChoiceStatus {
        service: service.name.to_string(),
        client: client.to_string(),
        source: match client {
            IpAddr::V4(_) => client.to_string(),
            IpAddr::V6(address) => {
                format!("{}/64", Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))
            }
        },
        has_geo: view.geo.is_some(),
        country: who.country.map(|code| code.map(char::from).iter().collect()),
        region: who.region.as_deref().map(str::to_owned),
        pop_region: view.region.to_string(),
        listens: true,
        panic: choice.panics,
        attempts: service.forwarding.attempts,
        affinity: bound.map(|(ttl, backend)| AffinityStatus {
            ttl_ms: ms(ttl),
            backend: backend.map(|(index, _)| service.backends[index].id.to_string()),
            left_ms: backend.map(|(_, left)| ms(left)),
        }),
        backends: choice.in_order(),
    })
}

/// One service's candidates for one client.
struct Choice<'a> {
    service: &'a Service,
    candidates: Vec<Candidate>,
    panics: bool,
    /// The one that the client is bound to, if it may be used.
    bound: Option<usize>,
    /// The lowest score that may be used, and the part of it that is not load.
    best: Option<(f64, u32)>,
    now: Instant,
    now_ms: u64,
}

impl<'a> Choice<'a> {
    fn new(
        service: &'a Service,
        region: &str,
        who: &Client,
        bound: Option<usize>,
        now: Instant,
        now_ms: u64,
    ) -> Self {
        let candidates = select::explain(service, region, who, now, now_ms);
        let usable = candidates.iter().filter(|it| it.rejected.is_none());
        let best = usable.min_by(|a, b| a.score.total_cmp(&b.score)).map(|it| (it.score, place(it)));
        let panics = select::panics(service, now_ms);
        let bound = bound.filter(|index| candidates[*index].rejected.is_none());
        Self { service, candidates, panics, bound, best, now, now_ms }
    }

    fn in_order(&self) -> Vec<CandidateStatus> {
        let mut all: Vec<_> = self.candidates.iter().map(|it| (it, self.status(it))).collect();
        // Stable: those that may not be used stay in the order of the configuration.
        all.sort_by(|(a, a_status), (b, b_status)| {
            let rank = |it: &Candidate| (it.rejected.is_some(), self.bound != Some(it.index));
            let score = |it: &Candidate| if it.rejected.is_some() { 0.0 } else { it.score };
            rank(a)
                .cmp(&rank(b))
                .then(score(a).total_cmp(&score(b)))
                .then(b_status.chance.total_cmp(&a_status.chance))
        });
        all.into_iter().map(|(_, status)| status).collect()
    }

    fn status(&self, it: &Candidate) -> CandidateStatus {
        let backend = &self.service.backends[it.index];
        let chance = match self.bound {
            Some(bound) => f64::from(u8::from(bound == it.index)),
            None => it.chance,
        };
        let standing = backend.live.standing(self.now_ms);
        let up_for = backend.known.since.map(|since| self.now.saturating_duration_since(since));
        CandidateStatus {
            id: it.id.to_string(),
            address: it.address.to_string(),
            region: it.region.to_string(),
            verdict: match backend.known.verdict {
                Verdict::Up => "up",
                Verdict::Down => "down",
                Verdict::Unproven => "unproven",
            }
            .to_owned(),
            since_ms: up_for.map(ms),
            error: None,
            rtt_us: backend.known.rtt.map(|rtt| rtt.as_micros() as u64),
            ejected_ms: match standing {
                Standing::Out(left) => Some(left),
                Standing::In | Standing::MayBeTried | Standing::OnTrial => None,
            },
            open: it.connections,
            soft_limit: backend.soft_limit,
            hard_limit: backend.hard_limit,
            weight: backend.weight,
            weight_now: it.weight as f64 / 1_000.0,
            slow_start_ms: self.slow_start(backend, up_for),
            geo: u32::from(it.geo) * 100,
            far: u32::from(it.far) * 10,
            load: it.load,
            score: it.score,
            chance,
            why: (chance > 0.0).then(|| self.why(standing).name().to_owned()),
            why_not: if chance > 0.0 { None } else { Some(self.why_not(it).to_owned()) },
        }
    }

    fn slow_start(&self, backend: &Backend, up_for: Option<Duration>) -> Option<u64> {
        let left = self.service.forwarding.slow_start.checked_sub(up_for?)?;
        (backend.known.verdict == Verdict::Up && !left.is_zero()).then(|| ms(left))
    }

    /// As [`How::of`] would say it of the place.
    fn why(&self, standing: Standing) -> How {
        if self.bound.is_some() {
            How::Bound
        } else if self.panics {
            How::Panic
        } else if standing == Standing::MayBeTried {
            How::Trial
        } else {
            How::Best
        }
    }

    fn why_not(&self, it: &Candidate) -> &'static str {
        match it.rejected {
            Some(Rejection::Drains) => "draining",
            Some(Rejection::NeverProven) => "unproven",
            Some(Rejection::Down) => "down",
            Some(Rejection::Ejected(_)) => "ejected",
            Some(Rejection::OnTrial) => "on-trial",
            Some(Rejection::Full(_)) => "full",
            None if self.bound.is_some() => "bound-elsewhere",
            None if self.best.is_some_and(|(_, nearest)| place(it) > nearest) => "farther",
            None => "fuller",
        }
    }
}

/// The score without the load.
fn place(it: &Candidate) -> u32 {
    u32::from(it.geo) * 100 + u32::from(it.far) * 10
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests;
