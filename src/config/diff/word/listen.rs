//! The words of a service's listeners that differ. What certificates and keys hold is never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Words;
use crate::config::duration::written;
use crate::config::listen::{
    ClientCertificates, Identity, Limits, Listen, Protocol, Security, ServerName, SocketOptions, Tls,
    TlsVersion,
};

/// A listener goes by its address and ports; those that share them go by their order too.
pub(super) fn listeners(words: &mut Words, old: &[Listen], new: &[Listen]) {
    let (old, new) = (by_place(old), by_place(new));
    for place in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(place), new.get(place)) {
            (Some(old), Some(new)) => listener(words, &format!("listen.{place}"), old, new),
            (old, new) => {
                let show =
                    |it: &Option<&&Listen>| it.map_or("none".to_owned(), |it| kind(&it.security).to_owned());
                words.compare(&format!("listen.{place}"), &old, &new, show);
            }
        }
    }
}

fn by_place(list: &[Listen]) -> BTreeMap<String, &Listen> {
    let mut places = BTreeMap::new();
    for listen in list {
        let place = place(listen);
        let mut name = place.clone();
        let mut number = 1;
        while places.contains_key(&name) {
            number += 1;
            name = format!("{place}#{number}");
        }
        places.insert(name, listen);
    }
    places
}

fn place(listen: &Listen) -> String {
    let (first, last) = (listen.ports.start(), listen.ports.end());
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    let address = match listen.address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let protocol = if listen.protocol == Protocol::Udp { "/udp" } else { "" };
    format!("{address}:{ports}{protocol}")
}

fn kind(security: &Security) -> &'static str {
    match security {
        Security::Plain => "plain",
        Security::Terminate(_) => "tls",
        Security::Passthrough { .. } => "passthrough",
    }
}

fn listener(words: &mut Words, word: &str, old: &Listen, new: &Listen) {
    let Listen { address: _, ports: _, protocol: _, security, proxy_from, limits, socket } = old;
    match (security, &new.security) {
        (Security::Terminate(old), Security::Terminate(new)) => tls(words, &format!("{word}.tls"), old, new),
        (Security::Passthrough { names: old }, Security::Passthrough { names: new }) => {
            names(words, &format!("{word}.passthrough"), old, new);
        }
        (old, new) => words.compare(word, &kind(old), &kind(new), ToString::to_string),
    }
    words.list(&format!("{word}.proxy_from"), proxy_from, &new.proxy_from);
    let Limits { connections, per_source, per_site, rate, burst } = limits;
    words.text(&format!("{word}.limits.connections"), connections, &new.limits.connections);
    words.text(&format!("{word}.limits.per_source"), per_source, &new.limits.per_source);
    words.text(&format!("{word}.limits.per_site"), per_site, &new.limits.per_site);
    words.text(&format!("{word}.limits.rate"), rate, &new.limits.rate);
    words.text(&format!("{word}.limits.burst"), burst, &new.limits.burst);
    let SocketOptions { defer_accept, fast_open, keepalive, user_timeout, backlog } = socket;
    words.text(&format!("{word}.defer_accept"), defer_accept, &new.socket.defer_accept);
    words.text(&format!("{word}.fast_open"), fast_open, &new.socket.fast_open);
    words.or_off(&format!("{word}.keepalive"), *keepalive, new.socket.keepalive);
    words.or_off(&format!("{word}.user_timeout"), *user_timeout, new.socket.user_timeout);
    words.text(&format!("{word}.backlog"), backlog, &new.socket.backlog);
}

fn tls(words: &mut Words, word: &str, old: &Tls, new: &Tls) {
    let Tls { identity, names: its_names, alpn, minimum, clients, acme } = old;
    match (identity, &new.identity) {
        (
            Identity::Files { chain, key, ocsp },
            Identity::Files { chain: new_chain, key: new_key, ocsp: new_ocsp },
        ) => {
            words.hidden(&format!("{word}.certificate"), Some(chain), Some(new_chain));
            words.hidden(&format!("{word}.key"), Some(key), Some(new_key));
            words.hidden(&format!("{word}.ocsp"), ocsp.as_ref(), new_ocsp.as_ref());
        }
        (old, new) => {
            let show = |it: &&Identity| match it {
                Identity::Files { .. } => "from files".to_owned(),
                Identity::SelfSigned => "self-signed".to_owned(),
            };
            words.compare(&format!("{word}.certificate"), &old, &new, show);
        }
    }
    names(words, &format!("{word}.names"), its_names, &new.names);
    words.list(&format!("{word}.alpn"), alpn, &new.alpn);
    let version = |it: &TlsVersion| match it {
        TlsVersion::V1_2 => "1.2".to_owned(),
        TlsVersion::V1_3 => "1.3".to_owned(),
    };
    words.compare(&format!("{word}.minimum"), minimum, &new.minimum, version);
    let authorities = |it: &'_ ClientCertificates| match it {
        ClientCertificates::Off => None,
        ClientCertificates::Optional(list) | ClientCertificates::Required(list) => Some(list.clone()),
    };
    let (before, after) = (authorities(clients), authorities(&new.clients));
    words.hidden(&format!("{word}.client_ca"), before.as_ref(), after.as_ref());
    let required = |it: &ClientCertificates| match it {
        ClientCertificates::Off => "none",
        ClientCertificates::Optional(_) => "optional",
        ClientCertificates::Required(_) => "required",
    };
    words.text(&format!("{word}.client_auth"), &required(clients), &required(&new.clients));
    words.optional(&format!("{word}.acme"), acme, &new.acme);
}

/// The order of names means nothing.
fn names(words: &mut Words, word: &str, old: &[ServerName], new: &[ServerName]) {
    let sorted =
        |list: &[ServerName]| list.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    let show = |list: &Vec<ServerName>| match list.as_slice() {
        [] => "whatever is left".to_owned(),
        some => format!("[{}]", some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    words.compare(word, &sorted(old), &sorted(new), show);
}

impl Words {
    /// What nobody should read on a screen: only whether it is there, and whether it is another.
    pub(super) fn hidden<T: PartialEq>(&mut self, word: &str, old: Option<&T>, new: Option<&T>) {
        let set = |there: bool| if there { "set" } else { "none" }.to_owned();
        if old != new {
            let after =
                if old.is_some() && new.is_some() { "another".to_owned() } else { set(new.is_some()) };
            self.0.push(super::Word { word: word.to_owned(), old: set(old.is_some()), new: after });
        }
    }

    /// For durations of which zero is written as `off`.
    pub(super) fn or_off(&mut self, word: &str, old: std::time::Duration, new: std::time::Duration) {
        let show = |it: &std::time::Duration| if it.is_zero() { "off".to_owned() } else { written(*it) };
        self.compare(word, &old, &new, show);
    }
}
