//! Reads the `admin` section.

use std::path::PathBuf;

use crate::config::admin::Admin;
use crate::config::read::Spot;
use crate::config::signature::OperatorKey;

pub(super) fn decode(spot: &Spot<'_>) -> Option<Admin> {
    let mut fields = spot.fields()?;
    let default = Admin::default();
    let socket = fields.get("socket").and_then(|spot| socket(&spot)).unwrap_or(default.socket);
    let operator_key = fields.get("operator_key").and_then(|spot| operator_key(&spot));
    let max_darkened = fields.get("max_darkened").and_then(|spot| spot.number(0..=1024));
    fields.close(&[]);
    Some(Admin { socket, operator_key, max_darkened: max_darkened.unwrap_or(default.max_darkened) })
}

fn operator_key(spot: &Spot<'_>) -> Option<OperatorKey> {
    let key = OperatorKey::read(spot.line(256)?);
    if key.is_none() {
        spot.refuse(
            "no Ed25519 public key in base64",
            "the middle line of what `openssl pkey -in KEY.pem -pubout` writes",
        );
    }
    key
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
