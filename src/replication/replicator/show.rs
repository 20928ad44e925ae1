//! What replication shows of itself.

use std::time::{Instant, SystemTime};

use ipnetwork::IpNetwork;

use super::super::voters::PermitId;
use super::Replicator;
use crate::catalog::fleet::Announcement;
use crate::catalog::stance::Stance;
use crate::config::x509;
use crate::observe::status::PrefixStatus;
use crate::observe::status::fleet::{FleetAlarm, FleetStatus, MemberStatus, PromiseStatus};

/// As others are told of it.
pub(super) fn announcement(prefix: &PrefixStatus) -> Announcement {
    Announcement { state: prefix.state.clone(), reason: prefix.reason.clone(), why: prefix.why.clone() }
}

impl Replicator {
    pub(super) fn status(&self, now: Instant) -> FleetStatus {
        let (ledger, counts, own) = (self.replica.ledger(), self.replica.counts(), self.replica.origin());
        let head = ledger.head(own).map(|signed| &signed.head);
        let (rows, octets) = ledger.size();
        let ends = self.identity.expires();
        let alarm = |alarm: &super::super::replica::Alarm| FleetAlarm {
            pop: alarm.origin.to_string(),
            by: alarm.peer.as_ref().map(ToString::to_string),
            words: alarm.words.clone(),
            age_ms: now.saturating_duration_since(alarm.at).as_millis() as u64,
        };
        FleetStatus {
            fleet: self.config.fleet.clone(),
            pop: own.to_string(),
            error: None,
            point: head.map(|head| head.point.to_string()).unwrap_or_default(),
            silenced: self.replica.rival().is_some(),
            note: self
                .projection
                .fleet()
                .pops
                .get(own.as_str())
                .and_then(|member| member.note.as_deref().map(str::to_owned)),
            rows,
            octets,
            behind: self.replica.behind().len() as u64,
            certificate_ends: ends
                .and_then(|ends| ends.duration_since(SystemTime::UNIX_EPOCH).ok())
                .map_or(0, |since| since.as_secs()),
            certificate_days: ends.map_or(0, days),
            pushed: counts.pushed,
            taken: counts.taken,
            known: counts.known,
            refused: counts.refused,
            hurried: counts.hurried,
            unverified: counts.unverified,
            fetched: counts.fetched,
            compared: counts.compared,
            voters: self.config.voters.clone(),
            promises: self.permitting.voter().promises().map(promise).collect(),
            unheard: if self.config.voters.iter().any(|voter| voter == own.as_str()) {
                let unheard = self.permitting.voter().unheard(&self.members_of_fleet());
                unheard.iter().map(ToString::to_string).collect()
            } else {
                Vec::new()
            },
            vanished: self.membership.doubt().map(|doubt| doubt.vanished as u64),
            strain: u64::from(self.membership.strain()),
            members: self.shown_members(now),
            alarms: self.replica.alarms().map(alarm).collect(),
        }
    }

    fn shown_members(&self, now: Instant) -> Vec<MemberStatus> {
        let (ledger, own) = (self.replica.ledger(), self.replica.origin());
        let standings = self.membership.standings();
        let mut names: Vec<&str> = self.config.peers.iter().map(|peer| peer.pop.as_str()).collect();
        names.extend(self.projection.fleet().pops.keys().map(|name| &**name));
        names.sort_unstable();
        names.dedup();
        let shown = |name: &&str| {
            let origin = super::Origin::new(name)?;
            let member = self.projection.fleet().pops.get(*name);
            let pop = member.and_then(|member| member.pop.as_ref());
            let configured = self.config.peers.iter().find(|peer| peer.pop == **name);
            let signed = ledger.head(&origin);
            let link = self.links.get(&origin);
            let carried = link.map(|link| link.connection.stats());
            let ours = ledger.head(own).map_or(0, |signed| signed.head.point.version);
            let lacks = self.replica.acknowledged(&origin);
            let heard = self.heartbeats.of(&origin);
            let announces = match &heard {
                Some((_, stances)) => {
                    stances.iter().filter_map(|(prefix, stance)| announced(*prefix, stance)).collect()
                }
                None => member
                    .into_iter()
                    .flat_map(|member| &member.announcements)
                    .filter(|(_, it)| it.state != "withdrawn")
                    .map(|(prefix, _)| prefix.to_string())
                    .collect(),
            };
            Some(MemberStatus {
                pop: (*name).to_owned(),
                region: pop
                    .map(|pop| pop.region.clone())
                    .or_else(|| configured.map(|peer| peer.region.clone()))
                    .unwrap_or_default(),
                version: pop.map(|pop| pop.version.clone()).unwrap_or_default(),
                connected: link.is_some(),
                inside: link.is_some_and(|link| link.inside),
                standing: standings.get(&origin).map(|standing| standing.word().to_owned()),
                address: link.map(|link| link.address().to_string()),
                rtt_us: link.map(|link| link.connection.rtt().as_micros() as u64),
                tx_bytes: carried.map_or(0, |carried| carried.udp_tx.bytes),
                rx_bytes: carried.map_or(0, |carried| carried.udp_rx.bytes),
                point: signed.map(|signed| signed.head.point.to_string()),
                rows: signed.map_or(0, |signed| signed.head.rows),
                octets: signed.map_or(0, |signed| signed.head.weight),
                lacks: lacks.map(|known| ours.saturating_sub(known.point.version)),
                note: member.and_then(|member| member.note.as_deref().map(str::to_owned)),
                heard_ms: heard.map(|(at, _)| now.saturating_duration_since(at).as_millis() as u64),
                announces,
                rtts_us: member
                    .into_iter()
                    .flat_map(|member| &member.links)
                    .map(|(peer, link)| (peer.to_string(), link.rtt_us))
                    .collect(),
                certificate_days: signed.and_then(|signed| x509::not_after(&signed.certificate)).map(days),
                error: if link.is_some() { None } else { self.unreached.get(&origin).cloned() },
            })
        };
        names.iter().filter(|name| **name != own.as_str()).filter_map(shown).collect()
    }
}

fn promise((prefix, holder, permit): (IpNetwork, &super::Origin, PermitId)) -> PromiseStatus {
    PromiseStatus { prefix: prefix.to_string(), holder: holder.to_string(), permit: permit.to_string() }
}

fn announced(prefix: IpNetwork, stance: &Stance) -> Option<String> {
    match stance {
        Stance::Announced => Some(prefix.to_string()),
        Stance::Draining => Some(format!("{prefix} (draining)")),
        Stance::Held(_) => Some(format!("{prefix} (held)")),
        Stance::Failed(_) | Stance::Withdrawn => None,
    }
}

/// From now on; less than zero if it has passed.
pub(super) fn days(ends: SystemTime) -> i64 {
    const DAY: u64 = 86_400;
    match ends.duration_since(SystemTime::now()) {
        Ok(left) => (left.as_secs() / DAY) as i64,
        Err(past) => -((past.duration().as_secs() / DAY) as i64) - 1,
    }
}
