//! The lines that pass between netlab and a service: `NUMBER ORDER` one way, `NUMBER ok` or `NUMBER failed: WORDS` the other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a service is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// No listener and no connections, or again both.
    Refuse(bool),
    /// The status of every HTTP answer.
    Status(u16),
    /// Resets whoever connects from now on.
    Cut(bool),
    /// Accepts and reads, but never answers.
    Hang(bool),
    /// How late every HTTP answer is.
    Delay(Duration),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse(on) => write!(f, "refuse {on}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Cut(on) => write!(f, "cut {on}"),
            Self::Hang(on) => write!(f, "hang {on}"),
            Self::Delay(delay) => write!(f, "delay {}", delay.as_micros()),
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unknown = || format!("unknown order {line:?}");
        let (word, value) = line.trim().split_once(' ').ok_or_else(unknown)?;
        match word {
            "refuse" => value.parse().map(Self::Refuse).map_err(|_| unknown()),
            "status" => value.parse().map(Self::Status).map_err(|_| unknown()),
            "cut" => value.parse().map(Self::Cut).map_err(|_| unknown()),
            "hang" => value.parse().map(Self::Hang).map_err(|_| unknown()),
            "delay" => value.parse().map(|us| Self::Delay(Duration::from_micros(us))).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_line_and_nonsense_is_refused() {
        let delay = Order::Delay(Duration::from_millis(15));
        for order in [Order::Refuse(true), Order::Status(503), Order::Hang(false), Order::Cut(true), delay] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for line in ["", "hang", "hang maybe", "status 70000", "dance now"] {
            assert!(line.parse::<Order>().is_err(), "{line}");
        }
    }
}
