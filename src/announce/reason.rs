//! Why a prefix is in its state: a name for machines, a sentence for people, and what would change it.

use std::net::IpAddr;
use std::time::Duration;

use super::damping::Dwell;
use super::drain::Left;
use super::facts::DrainFact;
use super::fleet::Hold;
use crate::health::Cause;

/// The rule that decided, with what an operator needs to act on it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// Rule 1.
    OperatorDown,
    /// A planned stop of the process.
    Stopping,
    /// The prefix's address is not on its device.
    AddressMissing { address: IpAddr, error: String },
    /// Rule 2; what is wrong, in words.
    LeaseExpired { what: String },
    /// Rule 4, before the first word.
    HealthUnknown,
    /// Rule 4.
    HealthStale { age: Duration, max_age: Duration },
    /// Rule 5.
    BelowWatermark(ServiceLevel),
    /// Rule 6.
    Starting(ServiceLevel),
    /// Rule 6, of the data path; what is missing, in words.
    Unserved { what: String },
    /// Rule 7; `announced` is what was before.
    BetweenWatermarks { level: ServiceLevel, announced: bool },
    /// Rule 8.
    BrownOut(ServiceLevel),
    /// Rule 9.
    Healthy { services: Vec<String> },
    /// Rule 3, still announced.
    Draining(DrainFact),
    /// Rule 3, withdrawn.
    Drained(DrainFact),
    /// The checks allow more, but it has failed too often lately.
    Damped { dwell: Dwell, allowed: Box<Reason> },
    /// Rules 2, 4 and 5 would withdraw it, and the fleet needs it announced.
    Held { hold: Hold, of: Box<Reason> },
}

/// Where a service stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceLevel {
    pub service: String,
    pub healthy: u32,
    pub total: u32,
    pub low: u32,
    pub high: u32,
    pub degrade: Option<u32>,
    pub cause: Option<Cause>,
}

impl Reason {
    /// The stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::OperatorDown => "operator-down",
            Self::Stopping => "stopping",
            Self::AddressMissing { .. } => "address-missing",
            Self::LeaseExpired { .. } => "lease-expired",
            Self::HealthUnknown => "health-unknown",
            Self::HealthStale { .. } => "health-stale",
            Self::BelowWatermark(_) => "below-watermark",
            // For scripts the same rule: nothing has failed, and something is not proven yet.
            Self::Starting(_) | Self::Unserved { .. } => "starting",
            Self::BetweenWatermarks { .. } => "between-watermarks",
            Self::BrownOut(_) => "brown-out",
            Self::Healthy { .. } => "healthy",
            Self::Draining(_) => "draining",
            Self::Drained(_) => "drained",
            Self::Damped { .. } => "damped",
            Self::Held { hold, .. } => hold.name(),
        }
    }

    /// Whether it is the operator's word and not what the checks say.
    #[must_use]
    pub fn is_operators(&self) -> bool {
        matches!(self, Self::OperatorDown | Self::Stopping | Self::Draining(_) | Self::Drained(_))
    }

    /// What does not work, in words that are the same at every POP; None if nothing has failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::AddressMissing { .. } | Self::LeaseExpired { .. } | Self::HealthStale { .. } => {
                Some(self.name().to_owned())
            }
            Self::BelowWatermark(level) => Some(format!("{} {}", self.name(), level.service)),
            Self::Held { of, .. } => of.failure(),
            _ => None,
        }
    }

    /// Whether the failure is proven here, and not only inferred from silence or wrong answers.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        match self {
            Self::AddressMissing { .. } | Self::LeaseExpired { .. } => true,
            Self::BelowWatermark(level) => level.cause.as_ref().is_some_and(|cause| cause.proven),
            Self::Held { of, .. } => of.is_proven(),
            _ => false,
        }
    }

    /// The reason as a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::OperatorDown => "the configuration says state: down".to_owned(),
            Self::Stopping => "the process is being stopped".to_owned(),
            Self::AddressMissing { address, error } => format!("{address} is not bound: {error}"),
            Self::LeaseExpired { what } => format!("the data path does not prove that it serves: {what}"),
            Self::Unserved { what } => format!("the data path is not proven yet: {what}"),
            Self::HealthUnknown => "no check has spoken yet".to_owned(),
            Self::HealthStale { age, max_age } => format!(
                "the checks have been silent for {} ms, more than the {} ms they are believed for",
                age.as_millis(),
                max_age.as_millis()
            ),
            Self::BelowWatermark(level) => format!(
                "service {} has {} of {} weight healthy, at or under its low watermark {}{}",
                level.service,
                level.healthy,
                level.total,
                level.low,
                level.because()
            ),
            Self::Starting(level) => format!(
                "service {} is not proven yet: {} of {} weight healthy, {} needed{}",
                level.service,
                level.healthy,
                level.total,
                level.high,
                level.because()
            ),
            Self::BetweenWatermarks { level, .. } => format!(
                "service {} has {} of {} weight healthy, between its watermarks {} and {}: as before{}",
                level.service,
                level.healthy,
                level.total,
                level.low,
                level.high,
                level.because()
            ),
            Self::BrownOut(level) => format!(
                "service {} has {} of {} weight healthy, under its degrade mark {}{}",
                level.service,
                level.healthy,
                level.total,
                level.degrade.unwrap_or(level.high),
                level.because()
            ),
            Self::Healthy { services } => match services.as_slice() {
                [one] => format!("service {one} is healthy"),
                many => format!("all {} services are healthy: {}", many.len(), many.join(", ")),
            },
            Self::Draining(drain) => match &drain.waits {
                Some(hold) => {
                    format!(
                        "an operator drains it{}; it stays announced: {}",
                        drain.because(),
                        hold.sentence()
                    )
                }
                None => format!("an operator drains it{}", drain.because()),
            },
            Self::Drained(drain) => {
                let how = match drain.left {
                    Left::AtOnce => "",
                    Left::Quiet => ": its traffic was gone",
                    Left::Deadline => ": the deadline of the drain was reached",
                };
                format!("an operator has drained it{}{how}", drain.because())
            }
            Self::Damped { dwell, allowed } => format!(
                "{}, but it failed {} lately: that must be so for {:?} without a break first",
                allowed.sentence(),
                if dwell.strikes == 1 { "once".to_owned() } else { format!("{} times", dwell.strikes) },
                dwell.length
            ),
            Self::Held { hold, of } => format!("{}; held: {}", of.sentence(), hold.sentence()),
        }
    }

    /// What would change the state, as a sentence.
    #[must_use]
    pub fn change(&self) -> String {
        match self {
            Self::OperatorDown => "set state: up in the configuration and reload".to_owned(),
            Self::Stopping => "nothing: start the process again".to_owned(),
            Self::AddressMissing { .. } => {
                "it is tried again every 5 s; correct the device or the permissions".to_owned()
            }
            Self::LeaseExpired { .. } => {
                "announced again once every worker serves in time and clients of our own come through; if that does \
                 not happen, `edgeproxy status` names what hangs: restart the process"
                    .to_owned()
            }
            Self::Unserved { .. } => {
                "judged when every worker has served, and a client of our own has come through or failed to".to_owned()
            }
            Self::HealthUnknown => {
                "judged at the first word of the checks, and as before until then; if none comes, \
                                    `edgeproxy status` names the threads that hang"
                    .to_owned()
            }
            Self::HealthStale { .. } => {
                "judged anew at the next word of the checks; if none comes, `edgeproxy status` \
                                         names the threads that hang: restart the process"
                    .to_owned()
            }
            Self::BelowWatermark(level) | Self::Starting(level) => {
                format!("announced when service {} has {} weight healthy", level.service, level.high)
            }
            Self::BetweenWatermarks { level, announced: true } => {
                format!("withdrawn when service {} falls to {} weight", level.service, level.low)
            }
            Self::BetweenWatermarks { level, announced: false } => {
                format!("announced when service {} has {} weight healthy", level.service, level.high)
            }
            Self::BrownOut(level) => format!(
                "preferred again at {} healthy weight of service {}, withdrawn at {}",
                level.degrade.unwrap_or(level.high),
                level.service,
                level.falls_at()
            ),
            Self::Healthy { .. } => {
                "withdrawn when a service falls to its low watermark, or the checks go silent".to_owned()
            }
            Self::Draining(_) => {
                "withdrawn when its traffic is gone, or at the deadline; `edgeproxy undrain` takes it back"
                    .to_owned()
            }
            Self::Drained(_) => "`edgeproxy undrain` takes it back".to_owned(),
            Self::Damped { dwell, .. } => {
                format!("announced once its services have stayed up for {:?} without a break", dwell.length)
            }
            Self::Held { hold, .. } => hold.change().to_owned(),
        }
    }

    /// The failure behind it, if one is.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::BelowWatermark(level)
            | Self::Starting(level)
            | Self::BetweenWatermarks { level, .. }
            | Self::BrownOut(level) => level.cause.as_ref(),
            Self::Damped { allowed: of, .. } | Self::Held { of, .. } => of.cause(),
            Self::OperatorDown
            | Self::Stopping
            | Self::AddressMissing { .. }
            | Self::LeaseExpired { .. }
            | Self::Unserved { .. }
            | Self::HealthUnknown
            | Self::HealthStale { .. }
            | Self::Healthy { .. }
            | Self::Draining(_)
            | Self::Drained(_) => None,
        }
    }
}

impl DrainFact {
    fn because(&self) -> String {
        if self.words.is_empty() { String::new() } else { format!(" ({})", self.words) }
    }
}

impl ServiceLevel {
    fn because(&self) -> String {
        match &self.cause {
            Some(cause) => format!("; last failure: {} ({}): {}", cause.backend, cause.target, cause.error),
            None => String::new(),
        }
    }

    /// The healthy weight at which the service is down: reaching `high` always wins over `low`.
    fn falls_at(&self) -> u32 {
        self.low.min(self.high.saturating_sub(1))
    }
}
