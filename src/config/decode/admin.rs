//! Reads the `admin` section.

use std::path::PathBuf;

use crate::config::admin::Admin;
use crate::config::read::Spot;

pub(super) fn decode(spot: &Spot<'_>) -> Option<Admin> {
    let mut fields = spot.fields()?;
    let socket = fields.get("socket").and_then(|spot| socket(&spot));
    fields.close(&[]);
    Some(socket.map_or_else(Admin::default, |socket| Admin { socket }))
}

fn socket(spot: &Spot<'_>) -> Option<PathBuf> {
    // unix(7): sun_path holds 108 octets with the final zero.
    let path = PathBuf::from(spot.line(107)?);
    if !path.is_absolute() {
        spot.refuse("the path of a socket must be absolute", "`/run/edgeproxy/edgeproxy.sock`");
        return None;
    }
    Some(path)
}
