//! The capabilities this speaker offers (RFC 5492), and no others.

/// Multiprotocol extensions (RFC 4760).
pub const MULTIPROTOCOL: u8 = 1;
/// Route refresh (RFC 2918).
pub const ROUTE_REFRESH: u8 = 2;
/// Four-octet AS numbers (RFC 6793).
pub const FOUR_OCTET_AS: u8 = 65;

/// What an OPEN of ours may hold. The state machine's library would offer more (extended messages,
/// enhanced refresh, extended next hop); what is not served must not be offered.
pub const OFFERED: [u8; 3] = [MULTIPROTOCOL, ROUTE_REFRESH, FOUR_OCTET_AS];
