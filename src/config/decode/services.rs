//! Reads the `services` section: backends and how many are enough.

use std::collections::BTreeMap;

use super::backend::{self, Here};
use super::listen::{self, Placed};
use super::{check, forwarding};
use crate::config::certificate::Files;
use crate::config::listen::Protocol;
use crate::config::read::{Letters, Spot, Unique, shown, whole};
use crate::config::services::{Backend, Level, Service, Watermark};

const MOST_SERVICES: usize = 4096;
const MOST_LISTENERS: usize = 64;
const MOST_BACKENDS_IN_ALL: usize = 16_384;

/// The section as far as it could be read.
pub(super) struct Read<'a> {
    pub(super) services: BTreeMap<String, Service>,
    /// Every name, also of services that were refused: whoever names them is not to blame.
    names: Unique,
    /// A service whose name could not be read might be any of those that are named elsewhere.
    nameless: bool,
    /// By the order of the file, also those of services that were refused.
    pub(super) listeners: Vec<Placed<'a>>,
}

impl Read<'_> {
    /// The names that exist; None if not all of them are known.
    pub(super) fn names(&self) -> Option<&Unique> {
        (!self.nameless).then_some(&self.names)
    }
}

pub(super) fn decode<'a>(spot: &Spot<'a>, here: &Here<'_>, files: &Files<'_>) -> Option<Read<'a>> {
    let mut read =
        Read { services: BTreeMap::new(), names: Unique::default(), nameless: false, listeners: Vec::new() };
    let mut backends = 0;
    for entry in spot.filled_list(MOST_SERVICES)? {
        if let Some(service) = service(&entry, here, files, &mut read) {
            backends += service.backends.len();
            read.services.insert(service.name.clone(), service);
        }
    }
    if backends > MOST_BACKENDS_IN_ALL {
        spot.refuse(
            format!("{backends} backends in all, but at most {MOST_BACKENDS_IN_ALL} are taken"),
            "remove backends",
        );
    }
    Some(read)
}

fn service<'a>(spot: &Spot<'a>, here: &Here<'_>, files: &Files<'_>, read: &mut Read<'a>) -> Option<Service> {
    let fields = spot.fields();
    read.nameless |= fields.is_none();
    let mut fields = fields?;
    let name_at = fields.need("name");
    let name = name_at.as_ref().and_then(|spot| spot.name(Letters::Label, 1..=63));
    read.nameless |= name.is_none();
    let name = name.zip(name_at).and_then(|(name, spot)| read.names.claim(&spot, &name).then_some(name));
    let watermark_at = fields.get("watermark");
    let before = spot.sheet().count();
    let backends = fields.need("backends").and_then(|spot| backend::list(&spot, here));
    // Levels are only judged against a weight that is really meant.
    let total = backends.as_ref().filter(|_| spot.sheet().count() == before).map(|backends| weight(backends));
    let watermark = match watermark_at {
        Some(spot) => watermark(&spot, total),
        None => Some(Watermark::default()),
    };
    let check = match fields.get("health") {
        Some(spot) => check::decode(&spot, backends.as_deref()),
        None => Some(check::default()),
    };
    let listen = match fields.get("listen") {
        Some(spot) => spot.filled_list(MOST_LISTENERS),
        None => Some(Vec::new()),
    };
    let listen = listen.map(|list| {
        let placed = list.iter().filter_map(|spot| listen::decode(spot, backends.as_deref(), files));
        let placed: Vec<_> = placed.collect();
        let listen: Vec<_> = placed.iter().map(|it| it.listen().clone()).collect();
        read.listeners.extend(placed);
        listen
    });
    let from_fleet = fields.get("from_fleet").and_then(|spot| {
        let wanted = spot.switch()?;
        if wanted && !here.fleet {
            spot.refuse(
                "no fleet that could tell of backends: there is no `replication`, or no `backhaul` to reach them",
                "add both sections, or leave it out",
            );
        }
        Some(wanted)
    });
    let udp = listen.iter().flatten().any(|listen| listen.protocol == Protocol::Udp);
    if udp && from_fleet == Some(true) {
        spot.refuse(
            "a service over UDP has no backends at other POPs: their ingress takes TCP",
            "leave `from_fleet` out",
        );
    }
    let forwarding = forwarding::decode(&mut fields, udp);
    fields.close(&[]);
    Some(Service {
        name: name?,
        watermark: watermark?,
        backends: backends?,
        from_fleet: from_fleet.unwrap_or(false),
        check: check?,
        listen: listen?,
        forwarding,
    })
}

fn weight(backends: &[Backend]) -> u32 {
    backends.iter().map(|backend| backend.weight).sum()
}

/// `total` is the service's whole weight; None if it is not known.
fn watermark(spot: &Spot<'_>, total: Option<u32>) -> Option<Watermark> {
    let before = spot.sheet().count();
    let mut fields = spot.fields()?;
    let default = Watermark::default();
    let (low_at, high_at, degrade_at) = (fields.get("low"), fields.get("high"), fields.get("degrade"));
    let low = low_at.as_ref().and_then(level).unwrap_or(default.low);
    let high = high_at.as_ref().and_then(level).unwrap_or(default.high);
    let degrade = degrade_at.as_ref().and_then(level);
    fields.close(&[]);
    let Some(total) = total.filter(|_| spot.sheet().count() == before) else {
        return Some(Watermark { low, high, degrade });
    };
    let refuse = |at: &Option<Spot<'_>>, message: String, hint: &str| {
        at.as_ref().unwrap_or(spot).refuse(message, hint);
    };
    let (low_weight, high_weight) = (low.of(total), high.of(total));
    if high_weight > total {
        let message = format!("`high` is a weight of {high_weight}, but all backends together weigh {total}");
        refuse(
            &high_at,
            message,
            "the service would never come up: lower it, or write a share such as `50%`",
        );
    } else if high_weight == 0 {
        refuse(&high_at, "`high` is 0: the service would be up without any backend".to_owned(), "at least 1");
    }
    if low_weight > high_weight {
        let at = if low_at.is_some() { &low_at } else { &high_at };
        let message = format!("`low` is a weight of {low_weight}, over `high`, which is {high_weight}");
        refuse(at, message, "`low` is at most `high`: raise `high` or lower `low`");
    }
    if let Some(degrade_weight) = degrade.map(|degrade| degrade.of(total)) {
        if degrade_weight > total {
            let message =
                format!("`degrade` is a weight of {degrade_weight}, but all backends together weigh {total}");
            refuse(
                &degrade_at,
                message,
                "the prefix would always be de-preferred: lower it, or write a share",
            );
        } else if degrade_weight < high_weight {
            let message =
                format!("`degrade` is a weight of {degrade_weight}, under `high`, which is {high_weight}");
            refuse(&degrade_at, message, "`degrade` is at least `high`");
        }
    }
    Some(Watermark { low, high, degrade })
}

/// `3`, a weight, or `50%`, a share.
fn level(spot: &Spot<'_>) -> Option<Level> {
    let text = spot.text()?;
    let level = match text.strip_suffix('%') {
        Some(share) => whole(share).filter(|&share| share <= 100).map(|share| Level::Percent(share as u8)),
        None => whole(text).and_then(|weight| u32::try_from(weight).ok()).map(Level::Weight),
    };
    if level.is_none() {
        let hint = "a weight such as `3`, or a share from `0%` to `100%`";
        spot.refuse(format!("expected a weight or a share, found {}", shown(text)), hint);
    }
    level
}
