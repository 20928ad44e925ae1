//! Reads the `services` section: backends and how many are enough.

use std::collections::BTreeMap;

use super::{check, pop};
use crate::config::read::{Letters, Spot, Unique, shown, whole};
use crate::config::services::{Backend, Forwarding, Level, Service, Watermark};

const MOST_SERVICES: usize = 4096;
const MOST_BACKENDS: usize = 4096;
const MOST_BACKENDS_IN_ALL: usize = 16_384;
/// Words of a service that versions to come will take.
const LATER: [&str; 1] = ["listen"];

/// The section as far as it could be read.
pub(super) struct Read {
    pub(super) services: BTreeMap<String, Service>,
    /// Every name, also of services that were refused: whoever names them is not to blame.
    names: Unique,
    /// A service whose name could not be read might be any of those that are named elsewhere.
    nameless: bool,
}

impl Read {
    /// The names that exist; None if not all of them are known.
    pub(super) fn names(&self) -> Option<&Unique> {
        (!self.nameless).then_some(&self.names)
    }
}

/// `region` is that of backends which name none.
pub(super) fn decode(spot: &Spot<'_>, region: &str) -> Option<Read> {
    let mut read = Read { services: BTreeMap::new(), names: Unique::default(), nameless: false };
    let mut backends = 0;
    for entry in spot.filled_list(MOST_SERVICES)? {
        if let Some(service) = service(&entry, region, &mut read) {
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

fn service(spot: &Spot<'_>, region: &str, read: &mut Read) -> Option<Service> {
    let fields = spot.fields();
    read.nameless |= fields.is_none();
    let mut fields = fields?;
    let name_at = fields.need("name");
    let name = name_at.as_ref().and_then(|spot| spot.name(Letters::Label, 1..=63));
    read.nameless |= name.is_none();
    let name = name.zip(name_at).and_then(|(name, spot)| read.names.claim(&spot, &name).then_some(name));
    let watermark_at = fields.get("watermark");
    let before = spot.sheet().count();
    let backends = fields.need("backends").and_then(|spot| backends(&spot, region));
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
    fields.close(&LATER);
    Some(Service {
        name: name?,
        watermark: watermark?,
        backends: backends?,
        check: check?,
        listen: Vec::new(),
        forwarding: Forwarding::default(),
    })
}

fn weight(backends: &[Backend]) -> u32 {
    backends.iter().map(|backend| backend.weight).sum()
}

fn backends(spot: &Spot<'_>, region: &str) -> Option<Vec<Backend>> {
    let mut ids = Unique::default();
    let list = spot.filled_list(MOST_BACKENDS)?;
    Some(list.iter().filter_map(|spot| backend(spot, region, &mut ids)).collect())
}

fn backend(spot: &Spot<'_>, region: &str, ids: &mut Unique) -> Option<Backend> {
    let mut fields = spot.fields()?;
    let id = fields.need("id").and_then(|spot| {
        let id = spot.name(Letters::Loose, 1..=63)?;
        ids.claim(&spot, &id).then_some(id)
    });
    let address = fields.need("address").and_then(|spot| {
        let address = spot.address()?;
        if address.is_unspecified() || address.is_multicast() {
            spot.refuse(
                format!("no backend can be at {address}"),
                "write the unicast address that the backend listens on",
            );
            return None;
        }
        Some(address)
    });
    let port = fields.need("port").and_then(|spot| spot.number(1..=65535));
    let region = match fields.get("region") {
        Some(spot) => pop::region(&spot),
        None => Some(region.to_owned()),
    };
    let weight = fields.get("weight").and_then(|spot| spot.number(1..=1000)).unwrap_or(2);
    fields.close(&[]);
    Some(Backend {
        id: id?,
        address: address?,
        port: port?,
        region: region?,
        weight,
        soft_limit: 100,
        hard_limit: 150,
        country: None,
        drain: false,
    })
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
