//! What somebody must say to learn where a client would be taken.

use std::net::{IpAddr, Ipv4Addr};

use crate::admin::query;

/// Whose way somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedChoice {
    pub client: IpAddr,
    pub service: String,
}

/// What a query asks for; None: it is not about a client.
pub(super) fn wanted(text: &str) -> Result<Option<WantedChoice>, String> {
    match (query::value(text, "client"), query::value(text, "service")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) if query::value(text, "prefix").is_some() => {
            Err("a prefix or a client with a service, not both".to_owned())
        }
        (Some(client), Some(service)) => Ok(Some(WantedChoice { client: address(&client)?, service })),
        (Some(_), None) => Err("say which service the client wants: add service=web".to_owned()),
        (None, Some(_)) => Err("say which client comes: add client=203.0.113.7".to_owned()),
    }
}

/// The address of somebody who could be a client.
///
/// # Errors
/// In words.
pub fn address(text: &str) -> Result<IpAddr, String> {
    const HINT: &str = "one address, without port or length, such as 203.0.113.7 or 2001:db8::7";
    let address: IpAddr =
        text.trim().parse().map_err(|_| format!("`{text}` is no address of a client: {HINT}"))?;
    let address = address.to_canonical();
    let why = match address {
        _ if address.is_unspecified() => "nobody's address",
        _ if address.is_multicast() => "a group's address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "everybody's address",
        _ => return Ok(address),
    };
    Err(format!("{address} is {why}, and no client comes from there: {HINT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_client() {
        for (text, shown) in [
            ("203.0.113.7", "203.0.113.7"),
            (" 2001:DB8::7 ", "2001:db8::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(address(text).map(|it| it.to_string()).as_deref(), Ok(shown));
        }
        for (text, words) in [
            ("203.0.113.7:443", "no address of a client"),
            ("203.0.113.0/24", "without port or length"),
            ("[2001:db8::7]", "no address"),
            ("www.example.net", "no address"),
            ("", "no address"),
            ("0.0.0.0", "nobody's"),
            ("::", "nobody's"),
            ("::ffff:0.0.0.0", "nobody's"),
            ("224.0.0.1", "a group's"),
            ("ff02::1", "a group's"),
            ("255.255.255.255", "everybody's"),
        ] {
            let why = address(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
