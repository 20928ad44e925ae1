//! When the certificates of a configuration end, and when to remind operators of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::Config;
use crate::config::listen::{Identity, Listen, Security, Tls};
use crate::config::x509;
use crate::observe::status::traffic::CertificateStatus;

const DAY: Duration = Duration::from_secs(86_400);
/// With less time left operators are warned.
const SOON: Duration = DAY.saturating_mul(14);

/// One certificate that a listener shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub service: String,
    /// `198.51.100.1:443`, or `198.51.100.1:8000-8010`.
    pub listener: String,
    /// Names that lead to it; none: whatever no other listener there claims.
    pub names: Vec<String>,
    pub end: End,
}

/// When a certificate ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    At(SystemTime),
    /// It does not say so in a way that we understand.
    Unknown,
    /// It is made by ourselves at every start, and no client trusts it anyway.
    SelfSigned,
}

/// Those of a configuration: the leaf of each listener whose TLS ends here, by service.
#[must_use]
pub fn certificates(config: &Config) -> Vec<Certificate> {
    let listeners = config.services.iter().flat_map(|(name, it)| it.listen.iter().map(move |it| (name, it)));
    let terminated = listeners.filter_map(|(service, listen)| match &listen.security {
        Security::Terminate(tls) => Some((service, listen, tls)),
        Security::Plain | Security::Passthrough { .. } => None,
    });
    let certificate = |(service, listen, tls): (&String, &Listen, &_)| Certificate {
        service: service.clone(),
        listener: place(listen),
        names: names(tls),
        end: end(tls),
    };
    terminated.map(|(service, listen, tls)| certificate((service, listen, &**tls))).collect()
}

impl Certificate {
    /// What is told of it at this moment.
    #[must_use]
    pub fn status(&self, now: SystemTime) -> CertificateStatus {
        let not_after = match self.end {
            End::At(end) => Some(end),
            End::Unknown | End::SelfSigned => None,
        };
        CertificateStatus {
            service: self.service.clone(),
            listener: self.listener.clone(),
            names: self.names.clone(),
            self_signed: self.end == End::SelfSigned,
            not_after: not_after.and_then(|end| Some(end.duration_since(UNIX_EPOCH).ok()?.as_secs())),
            left_s: not_after.map(|end| left(end, now)),
            problem: self.problem(now).map(|problem| problem.to_string()),
        }
    }

    fn problem(&self, now: SystemTime) -> Option<Problem> {
        match self.end {
            End::SelfSigned => Some(Problem::SelfSigned),
            End::Unknown => None,
            End::At(end) => match end.duration_since(now) {
                Ok(left) if left < SOON => Some(Problem::Soon(left)),
                Ok(_) => None,
                Err(over) => Some(Problem::Over(over.duration())),
            },
        }
    }
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    SelfSigned,
    Soon(Duration),
    Over(Duration),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |time: &Duration| {
            let (hours, days) = (time.as_secs() / 3_600, time.as_secs() / 86_400);
            let (count, unit) = if days > 0 { (days, "day") } else { (hours, "hour") };
            let plural = if count == 1 { "" } else { "s" };
            if count == 0 { "less than an hour".to_owned() } else { format!("{count} {unit}{plural}") }
        };
        const REMEDY: &str = "replace its files, and `edgeproxy reload`";
        match self {
            Self::SelfSigned => f.write_str("self-signed, for first steps only: no client trusts it"),
            Self::Soon(left) => write!(f, "ends in {}: {REMEDY}", span(left)),
            Self::Over(over) => write!(f, "ended {} ago, and clients refuse it: {REMEDY}", span(over)),
        }
    }
}

/// Who was reminded of what.
#[derive(Debug, Default)]
pub struct Reminders(BTreeMap<(String, Vec<String>, End), Told>);

#[derive(Debug, Clone, Copy)]
struct Told {
    at: SystemTime,
    is_over: bool,
}

impl Reminders {
    /// Those of which to remind now, with whether they are over: once a day of one that ends soon, and once when it has
    /// ended. It remembers as many as it is given.
    pub fn handle_time<'c>(
        &mut self,
        certificates: &'c [Certificate],
        now: SystemTime,
    ) -> Vec<(&'c Certificate, bool)> {
        let key = |it: &Certificate| (it.listener.clone(), it.names.clone(), it.end);
        let mut before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for it in certificates {
            let told = before.remove(&key(it));
            let is_over = match it.problem(now) {
                Some(Problem::Soon(_)) => false,
                Some(Problem::Over(_)) => true,
                Some(Problem::SelfSigned) | None => continue,
            };
            let is_due = told.is_none_or(|told| match is_over {
                true => !told.is_over,
                // A clock that went back is no reason to say it again at every look.
                false => now.duration_since(told.at).is_ok_and(|since| since >= DAY),
            });
            let was_over = told.is_some_and(|told| told.is_over);
            let told = match told {
                Some(told) if !is_due => told,
                _ => {
                    due.push((it, is_over));
                    Told { at: now, is_over: is_over || was_over }
                }
            };
            self.0.insert(key(it), told);
        }
        due
    }
}

/// Seconds; negative once it is over.
fn left(end: SystemTime, now: SystemTime) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    end.duration_since(now).map_or_else(|over| -seconds(over.duration()), seconds)
}

fn end(tls: &Tls) -> End {
    match &tls.identity {
        Identity::SelfSigned => End::SelfSigned,
        Identity::Files { chain, .. } => {
            chain.first().and_then(|leaf| x509::not_after(leaf)).map_or(End::Unknown, End::At)
        }
    }
}

fn names(tls: &Tls) -> Vec<String> {
    tls.names.iter().map(ToString::to_string).collect()
}

fn place(listen: &Listen) -> String {
    let (first, last) = (*listen.ports.start(), *listen.ports.end());
    let mut place = SocketAddr::new(listen.address, first).to_string();
    if first != last {
        place += &format!("-{last}");
    }
    place
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load::load;

    fn at(day: u64) -> SystemTime {
        UNIX_EPOCH + DAY * day as u32
    }

    fn certificate(end: End) -> Certificate {
        let names = vec!["www.example.net".to_owned()];
        Certificate { service: "web".into(), listener: "198.51.100.1:443".into(), names, end }
    }

    #[test]
    fn a_configuration_says_what_it_shows() {
        let config = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/edgeproxy.yaml")).unwrap();
        let names = ["www.example.net", "*.example.net"].map(str::to_owned).to_vec();
        let all = certificates(&config);
        assert_eq!(all, [Certificate { names, ..certificate(End::SelfSigned) }]);
        let status = all[0].status(at(20_000));
        assert!(status.self_signed && status.left_s.is_none() && status.problem.is_some());
        let mut listen = config.services["web"].listen[1].clone();
        listen.ports = 8_000..=8_010;
        assert_eq!(place(&listen), "198.51.100.1:8000-8010");
    }

    #[test]
    fn what_is_told_of_its_end() {
        let it = certificate(End::At(at(100)));
        let second = Duration::from_secs(1);
        // now, seconds left, words
        for (now, left, words) in [
            (at(1), 99 * 86_400, None),
            (at(86), 14 * 86_400, None),
            (at(86) + second, 14 * 86_400 - 1, Some("ends in 13 days: replace")),
            (at(99), 86_400, Some("ends in 1 day: replace")),
            (at(99) + second, 86_399, Some("ends in 23 hours: replace")),
            (at(100) - second, 1, Some("ends in less than an hour: replace")),
            (at(100), 0, Some("ends in less than an hour: replace")),
            (at(100) + second, -1, Some("ended less than an hour ago, and clients refuse it: replace")),
            (at(102), -2 * 86_400, Some("ended 2 days ago, and")),
        ] {
            let status = it.status(now);
            assert_eq!((status.not_after, status.left_s), (Some(100 * 86_400), Some(left)));
            let (said, wanted) = (status.problem.unwrap_or_default(), words.unwrap_or_default());
            assert!(said.starts_with(wanted) && said.is_empty() == wanted.is_empty(), "{said}");
        }
        assert_eq!(certificate(End::Unknown).status(at(1)).problem, None);
    }

    #[test]
    fn a_reminder_every_day_and_one_at_the_end() {
        const NOTHING: [bool; 0] = [];
        let all = [certificate(End::At(at(100))), certificate(End::SelfSigned), certificate(End::Unknown)];
        let mut reminders = Reminders::default();
        let mut said = |now| reminders.handle_time(&all, now).iter().map(|it| it.1).collect::<Vec<_>>();
        let hour = Duration::from_secs(3_600);
        assert_eq!(said(at(80)), NOTHING);
        assert_eq!(said(at(90)), [false]);
        assert_eq!(said(at(90) + hour), NOTHING);
        assert_eq!(said(at(91) - hour), NOTHING);
        assert_eq!(said(at(91)), [false]);
        // The clock goes back and comes again.
        assert_eq!(said(at(88)), NOTHING);
        assert_eq!(said(at(91) + hour), NOTHING);
        assert_eq!(said(at(92)), [false]);
        assert_eq!(said(at(100) + hour), [true]);
        assert_eq!(said(at(101) + hour), NOTHING);
        assert_eq!(said(at(120)), NOTHING);
        assert_eq!(said(at(95)), NOTHING);
        assert_eq!(said(at(130)), NOTHING);
        // A renewed one is another; what is gone is forgotten.
        let renewed = [certificate(End::At(at(140)))];
        assert_eq!(reminders.handle_time(&renewed, at(130)).len(), 1);
        assert_eq!(reminders.0.len(), 1);
        assert!(reminders.handle_time(&[], at(130)).is_empty() && reminders.0.is_empty());
    }
}
