//! Attacks: begun, and held against what they may come to.

use super::Runner;
use crate::moment::Moment;
use crate::scenario::{Attack, ExpectAttack};
use crate::traffic;
use crate::traffic::attack::Plan;

impl Runner<'_> {
    pub(super) fn attack(&mut self, wanted: &Attack) -> Result<Moment, String> {
        let node = self.lab.node(&wanted.from).map_err(|error| error.to_string())?;
        let is_full = std::env::var_os("EDGEPROXY_FULL").is_some();
        let count = wanted.full.filter(|_| is_full).unwrap_or(wanted.count);
        let plan = Plan { target: wanted.target, kind: wanted.kind, count, rate: wanted.rate };
        let at = Moment::now();
        let started =
            node.namespace.run(|| traffic::Attack::start(&plan)).map_err(|error| error.to_string())?;
        let attack = started.map_err(|error| error.to_string())?;
        self.attacks.insert(wanted.name.clone(), (attack, count));
        Ok(at)
    }

    pub(super) fn attacked(&mut self, wanted: &ExpectAttack) -> Result<(), String> {
        let name = &wanted.name;
        let (attack, count) = self.attacks.get(name).ok_or_else(|| format!("there is no attack {name}"))?;
        let ((over, served), cookies) = (attack.counts(), attack.cookies());
        if over >= wanted.over.unwrap_or(*count) && served <= wanted.served && cookies >= wanted.cookies {
            return Ok(());
        }
        Err(format!(
            "{name}: {over} of {count} attempts are over, {served} of them were served, {cookies} got a cookie; wanted: {wanted:?}"
        ))
    }
}
