//! The words that differ, part by part of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Display};

use serde::Serialize;

mod backhaul;
mod forwarding;
mod listen;
mod replication;

pub(super) use backhaul::{peer, section};
pub(super) use forwarding::proxy;
pub(super) use replication::replication;

use crate::config::anycast::{Anycast, Damping, Drain};
use crate::config::bgp::{Attributes, Neighbor};
use crate::config::services::{Backend, Check, HttpProbe, Level, Probe, Service, StatusSet};

/// A key of the configuration with its old and its new value, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Word {
    pub word: String,
    pub old: String,
    pub new: String,
}

impl Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.word, self.old, self.new)
    }
}

/// Collects the words that differ.
#[derive(Default)]
pub(super) struct Words(Vec<Word>);

impl Words {
    pub(super) fn compare<T: PartialEq>(
        &mut self,
        word: &str,
        old: &T,
        new: &T,
        show: impl Fn(&T) -> String,
    ) {
        if old != new {
            self.0.push(Word { word: word.to_owned(), old: show(old), new: show(new) });
        }
    }

    /// For durations and single words, whose debug form is how they are written.
    pub(super) fn debug<T: PartialEq + Debug>(&mut self, word: &str, old: &T, new: &T) {
        self.compare(word, old, new, |value| format!("{value:?}").to_lowercase());
    }

    pub(super) fn text<T: PartialEq + Display>(&mut self, word: &str, old: &T, new: &T) {
        self.compare(word, old, new, ToString::to_string);
    }

    pub(super) fn optional<T: PartialEq + Display>(&mut self, word: &str, old: &Option<T>, new: &Option<T>) {
        self.compare(word, old, new, |value| value.as_ref().map_or("none".to_owned(), ToString::to_string));
    }

    pub(super) fn list<T: PartialEq + Display>(&mut self, word: &str, old: &Vec<T>, new: &Vec<T>) {
        let show =
            |list: &Vec<T>| format!("[{}]", list.iter().map(T::to_string).collect::<Vec<_>>().join(", "));
        self.compare(word, old, new, show);
    }

    fn attributes(&mut self, word: &str, old: &Attributes, new: &Attributes) {
        let Attributes { prepend, med, communities, large_communities } = old;
        self.text(&format!("{word}.prepend"), prepend, &new.prepend);
        self.optional(&format!("{word}.med"), med, &new.med);
        self.list(&format!("{word}.communities"), communities, &new.communities);
        self.list(&format!("{word}.large_communities"), large_communities, &new.large_communities);
    }

    pub(super) fn done(self) -> Vec<Word> {
        self.0
    }
}

/// The words of a neighbor that reset its session, and those that do not.
pub(super) fn neighbor(old: &Neighbor, new: &Neighbor) -> (Vec<Word>, Vec<Word>) {
    let Neighbor {
        name: _,
        address,
        port,
        asn,
        families,
        source,
        passive,
        password,
        ttl_security,
        multihop,
        hold_time,
        connect_retry,
        max_prefixes,
        next_hop,
        export,
        degrade,
        drain,
    } = old;
    let mut reset = Words::default();
    reset.text("address", address, &new.address);
    reset.text("port", port, &new.port);
    reset.text("asn", asn, &new.asn);
    reset.list("families", families, &new.families);
    reset.optional("source", source, &new.source);
    reset.text("passive", passive, &new.passive);
    reset.hidden("password_file", password.as_ref(), new.password.as_ref());
    reset.optional("ttl_security", ttl_security, &new.ttl_security);
    reset.optional("multihop", multihop, &new.multihop);
    reset.debug("hold_time", hold_time, &new.hold_time);
    reset.debug("connect_retry", connect_retry, &new.connect_retry);

    let mut soft = Words::default();
    soft.optional("max_prefixes", max_prefixes, &new.max_prefixes);
    let own = "self".to_owned();
    let ipv4 = |hop: &Option<std::net::Ipv4Addr>| hop.map_or(own.clone(), |hop| hop.to_string());
    soft.compare("next_hop.ipv4", &next_hop.ipv4, &new.next_hop.ipv4, ipv4);
    let ipv6 = |hop: &Option<std::net::Ipv6Addr>| hop.map_or(own.clone(), |hop| hop.to_string());
    soft.compare("next_hop.ipv6", &next_hop.ipv6, &new.next_hop.ipv6, ipv6);
    soft.attributes("export", export, &new.export);
    soft.attributes("degrade", degrade, &new.degrade);
    soft.attributes("drain", drain, &new.drain);
    (reset.done(), soft.done())
}

/// The words of a prefix that differ.
pub(super) fn prefix(old: &Anycast, new: &Anycast) -> Vec<Word> {
    let Anycast {
        prefix: _,
        addresses,
        device,
        services,
        state,
        attributes,
        degrade,
        drain,
        min_announcers,
        damping,
    } = old;
    let mut words = Words::default();
    words.list("addresses", addresses, &new.addresses);
    words.text("device", device, &new.device);
    words.list("services", services, &new.services);
    words.debug("state", state, &new.state);
    words.attributes("attributes", attributes, &new.attributes);
    words.attributes("degrade", degrade, &new.degrade);
    self::drain(&mut words, drain, &new.drain);
    let damping_words = |damping: &Option<Damping>| match damping {
        None => "off".to_owned(),
        Some(Damping { min_up, max_dwell, decay }) => {
            format!("min_up {min_up:?} max_dwell {max_dwell:?} decay {decay:?}")
        }
    };
    words.text("min_announcers", min_announcers, &new.min_announcers);
    words.compare("damping", damping, &new.damping, damping_words);
    words.done()
}

fn drain(words: &mut Words, old: &Drain, new: &Drain) {
    let Drain { attributes, deadline, new_flows, open_flows, quiet_for, linger } = old;
    words.attributes("drain.attributes", attributes, &new.attributes);
    words.debug("drain.deadline", deadline, &new.deadline);
    words.text("drain.new_flows", new_flows, &new.new_flows);
    words.text("drain.open_flows", open_flows, &new.open_flows);
    words.debug("drain.quiet_for", quiet_for, &new.quiet_for);
    words.debug("drain.linger", linger, &new.linger);
}

/// The words of a service that differ; the order of its backends means nothing.
pub(super) fn service(old: &Service, new: &Service) -> Vec<Word> {
    let Service { name: _, watermark, backends, from_fleet, check, listen, forwarding } = old;
    let mut words = Words::default();
    words.text("from_fleet", from_fleet, &new.from_fleet);
    let level = |level: &Level| match level {
        Level::Weight(weight) => weight.to_string(),
        Level::Percent(percent) => format!("{percent}%"),
    };
    words.compare("watermark.low", &watermark.low, &new.watermark.low, level);
    words.compare("watermark.high", &watermark.high, &new.watermark.high, level);
    let degrade = |it: &Option<Level>| it.as_ref().map_or("none".to_owned(), level);
    words.compare("watermark.degrade", &watermark.degrade, &new.watermark.degrade, degrade);
    self::backends(&mut words, backends, &new.backends);
    self::check(&mut words, check, &new.check);
    listen::listeners(&mut words, listen, &new.listen);
    forwarding::forwarding(&mut words, forwarding, &new.forwarding);
    words.done()
}

fn backends(words: &mut Words, old: &[Backend], new: &[Backend]) {
    let by_id = |list: &[Backend]| -> BTreeMap<String, Backend> {
        list.iter().map(|backend| (backend.id.clone(), backend.clone())).collect()
    };
    let (old, new) = (by_id(old), by_id(new));
    let show = |backend: &Option<&Backend>| {
        backend.map_or("none".to_owned(), |Backend { address, port, region, weight, .. }| {
            format!("{address} port {port} region {region} weight {weight}")
        })
    };
    for id in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(id), new.get(id)) {
            (Some(old), Some(new)) => backend(words, &format!("backends.{id}"), old, new),
            (old, new) => words.compare(&format!("backends.{id}"), &old, &new, show),
        }
    }
}

fn backend(words: &mut Words, word: &str, old: &Backend, new: &Backend) {
    let Backend {
        id: _,
        address,
        port,
        pop,
        via_ingress,
        region,
        weight,
        soft_limit,
        hard_limit,
        country,
        drain,
    } = old;
    words.text(&format!("{word}.address"), address, &new.address);
    words.text(&format!("{word}.port"), port, &new.port);
    words.optional(&format!("{word}.pop"), pop, &new.pop);
    words.text(&format!("{word}.via_ingress"), via_ingress, &new.via_ingress);
    words.text(&format!("{word}.region"), region, &new.region);
    words.text(&format!("{word}.weight"), weight, &new.weight);
    words.text(&format!("{word}.soft_limit"), soft_limit, &new.soft_limit);
    words.text(&format!("{word}.hard_limit"), hard_limit, &new.hard_limit);
    words.optional(&format!("{word}.country"), country, &new.country);
    words.text(&format!("{word}.drain"), drain, &new.drain);
}

fn check(words: &mut Words, old: &Check, new: &Check) {
    let Check { probe, interval, fast_interval, timeout, rise, fall, source, port, held_connection } = old;
    words.compare("health.probe", probe, &new.probe, self::probe);
    words.debug("health.interval", interval, &new.interval);
    words.debug("health.fast_interval", fast_interval, &new.fast_interval);
    words.debug("health.timeout", timeout, &new.timeout);
    words.text("health.rise", rise, &new.rise);
    words.text("health.fall", fall, &new.fall);
    words.optional("health.source", source, &new.source);
    words.optional("health.port", port, &new.port);
    words.text("health.held_connection", held_connection, &new.held_connection);
}

fn probe(probe: &Probe) -> String {
    let HttpProbe { method, path, host, expect: StatusSet(ranges), body } = match probe {
        Probe::Off => return "off".to_owned(),
        Probe::Tcp => return "tcp".to_owned(),
        Probe::Http(http) => http,
    };
    let ranges: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    let host = host.as_ref().map(|host| format!(" host {host}")).unwrap_or_default();
    let body = body.as_ref().map(|body| format!(" body {body:?}")).unwrap_or_default();
    format!("http {method} {path}{host} expect {}{body}", ranges.join(","))
}
