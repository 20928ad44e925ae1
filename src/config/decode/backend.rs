//! Reads the backends of a service.

use super::{backhaul, pop};
use crate::config::pop::Pop;
use crate::config::read::{Fields, Letters, Spot, Unique, shown};
use crate::config::services::Backend;

mod away;

const MOST_BACKENDS: usize = 4096;
const SOFT_LIMIT: u32 = 100;
const HARD_LIMIT: u32 = 150;

/// What backends must know of the rest of the file.
pub(super) struct Here<'r> {
    /// Ours; None if it could not be read.
    pub(super) pop: Option<&'r Pop>,
    pub(super) elsewhere: Elsewhere<'r>,
    /// Whether there is a fleet, and a way to its backends.
    pub(super) fleet: bool,
}

/// The POPs beside ours.
pub(super) enum Elsewhere<'r> {
    /// There is no `backhaul`.
    Nowhere,
    /// There is one, but nobody can tell what is in it.
    Unread,
    Peers(&'r backhaul::Read<'r>),
}

/// The backends of a service.
pub(super) fn list(spot: &Spot<'_>, here: &Here<'_>) -> Option<Vec<Backend>> {
    let mut ids = Unique::default();
    let list = spot.filled_list(MOST_BACKENDS)?;
    Some(list.iter().filter_map(|spot| backend(spot, here, &mut ids)).collect())
}

fn backend(spot: &Spot<'_>, here: &Here<'_>, ids: &mut Unique) -> Option<Backend> {
    let mut fields = spot.fields()?;
    let id = fields.need("id").and_then(|spot| {
        let id = spot.name(Letters::Loose, 1..=63)?;
        ids.claim(&spot, &id).then_some(id)
    });
    let at = away::decode(&mut fields, here);
    let region = match fields.get("region") {
        Some(spot) => pop::region(&spot),
        None => Some(at.as_ref().map_or_else(String::new, |at| at.region.clone())),
    };
    let weight = fields.get("weight").and_then(|spot| spot.number(1..=1000)).unwrap_or(2);
    let (soft_limit, hard_limit) = limits(&mut fields);
    let country = fields.get("country").and_then(|spot| country(&spot));
    let drain = fields.get("drain").and_then(|spot| spot.switch()).unwrap_or(false);
    fields.close(&[]);
    let at = at?;
    Some(Backend {
        id: id?,
        address: at.address,
        port: at.port,
        pop: at.pop,
        via_ingress: at.via_ingress,
        region: region?,
        weight,
        soft_limit,
        hard_limit,
        country,
        drain,
    })
}

/// The soft and the hard limit. Whoever writes one of them does not have to know the default of the other.
fn limits(fields: &mut Fields<'_>) -> (u32, u32) {
    let soft = fields.get("soft_limit").and_then(|spot| spot.number(1..=1_000_000));
    let hard_at = fields.get("hard_limit");
    let hard = hard_at.as_ref().and_then(|spot| spot.number(0..=1_000_000));
    match (soft, hard) {
        (Some(soft), Some(hard)) => {
            if let Some(spot) = hard_at.filter(|_| 0 < hard && hard < soft) {
                spot.refuse(
                    format!("`hard_limit` is {hard}, under `soft_limit`, which is {soft}"),
                    "at least `soft_limit`; 0 for no limit",
                );
            }
            (soft, hard)
        }
        (Some(soft), None) => (soft, soft.max(HARD_LIMIT)),
        (None, Some(0) | None) => (SOFT_LIMIT, hard.unwrap_or(HARD_LIMIT)),
        (None, Some(hard)) => (SOFT_LIMIT.min(hard), hard),
    }
}

fn country(spot: &Spot<'_>) -> Option<String> {
    let text = spot.text()?;
    if text.len() != 2 || !text.bytes().all(|it| it.is_ascii_lowercase()) {
        let hint = match text.to_ascii_lowercase() {
            code if code.len() == 2 && code.bytes().all(|it| it.is_ascii_lowercase()) => {
                format!("write `{code}`")
            }
            _ => "two letters as in ISO 3166-1: `br`, `de`".to_owned(),
        };
        spot.refuse(format!("{} is no country", shown(text)), hint);
        return None;
    }
    Some(text.to_owned())
}
