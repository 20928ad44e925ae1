//! The words of how clients are taken to backends that differ, and those of the data plane as a whole.

use super::{Word, Words};
use crate::config::duration::written;
use crate::config::proxy::{AccessLog, Lease, Proxy};
use crate::config::services::{Ejection, Forwarding, Timeouts};
use crate::config::size;

pub(super) fn forwarding(words: &mut Words, old: &Forwarding, new: &Forwarding) {
    let Forwarding { affinity, slow_start, panic, send_proxy, timeouts, attempts, retry_budget, ejection } =
        old;
    words.or_off("affinity", affinity.unwrap_or_default(), new.affinity.unwrap_or_default());
    words.debug("slow_start", slow_start, &new.slow_start);
    let percent = |it: &u8| format!("{it}%");
    words.compare("panic", panic, &new.panic, percent);
    words.debug("send_proxy", send_proxy, &new.send_proxy);
    let Timeouts { connect, deadline, handshake, idle, udp_idle, half_closed } = timeouts;
    words.debug("timeouts.connect", connect, &new.timeouts.connect);
    words.debug("timeouts.deadline", deadline, &new.timeouts.deadline);
    words.debug("timeouts.handshake", handshake, &new.timeouts.handshake);
    words.or_off("timeouts.idle", *idle, new.timeouts.idle);
    words.debug("timeouts.udp_idle", udp_idle, &new.timeouts.udp_idle);
    words.debug("timeouts.half_closed", half_closed, &new.timeouts.half_closed);
    words.text("attempts", attempts, &new.attempts);
    words.compare("retry_budget", retry_budget, &new.retry_budget, percent);
    match (ejection, &new.ejection) {
        (Some(old), Some(new)) => {
            let Ejection { failures, time, max_time, share } = old;
            words.text("ejection.failures", failures, &new.failures);
            words.debug("ejection.time", time, &new.time);
            words.debug("ejection.max_time", max_time, &new.max_time);
            words.compare("ejection.share", share, &new.share, percent);
        }
        (old, new) => {
            words.compare("ejection", old, new, |it| if it.is_some() { "on" } else { "off" }.to_owned());
        }
    }
}

/// The words of the data plane that a reload changes, and those that it cannot.
pub(in crate::config::diff) fn proxy(old: &Proxy, new: &Proxy) -> (Vec<Word>, Vec<Word>) {
    let Proxy { workers, lease, connections, handshakes, memory, drain, access_log, geo, ticket_rotation } =
        old;
    let mut restart = Words::default();
    let count = |it: &Option<u16>| it.map_or("one for each processor".to_owned(), |it| it.to_string());
    restart.compare("proxy.workers", workers, &new.workers, count);

    let mut words = Words::default();
    let Lease { time, probe_interval, probe_timeout, probe_fall } = lease;
    words.debug("proxy.lease.time", time, &new.lease.time);
    words.debug("proxy.lease.probe_interval", probe_interval, &new.lease.probe_interval);
    words.debug("proxy.lease.probe_timeout", probe_timeout, &new.lease.probe_timeout);
    words.text("proxy.lease.probe_fall", probe_fall, &new.lease.probe_fall);
    words.text("proxy.connections", connections, &new.connections);
    words.text("proxy.handshakes", handshakes, &new.handshakes);
    words.compare("proxy.memory", memory, &new.memory, |it| size::written(*it));
    words.debug("proxy.drain", drain, &new.drain);
    let AccessLog { every, rate } = access_log;
    words.text("proxy.access_log.every", every, &new.access_log.every);
    words.text("proxy.access_log.rate", rate, &new.access_log.rate);
    let path = |it: &Option<std::path::PathBuf>| {
        it.as_ref().map_or("none".to_owned(), |it| it.display().to_string())
    };
    words.compare("proxy.geo", geo, &new.geo, path);
    words.compare("proxy.ticket_rotation", ticket_rotation, &new.ticket_rotation, |it| written(*it));
    (words.done(), restart.done())
}
