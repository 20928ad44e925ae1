//! Long flows: started, held against what was expected of them, and counted.

use super::Runner;
use crate::figures::Figure;
use crate::moment::Moment;
use crate::scenario::{ExpectFlows, FlowFigure, Flows};
use crate::traffic::FlowClient;
use crate::traffic::flows::Counts;

impl Runner<'_> {
    pub(super) fn start_flows(&mut self, flows: &Flows) -> Result<Moment, String> {
        self.flows.remove(&flows.name);
        let node = self.lab.node(&flows.from).map_err(|error| error.to_string())?;
        let at = Moment::now();
        let client = node
            .namespace
            .run(|| FlowClient::start(flows.plan()))
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        self.flows.insert(flows.name.clone(), client);
        Ok(at)
    }

    pub(super) fn flows(&mut self, wanted: &ExpectFlows) -> Result<(), String> {
        let (counts, _) = self.count_flows(&wanted.name, wanted.since.as_deref(), wanted.until.as_deref())?;
        if wanted.is_met(&counts) {
            return Ok(());
        }
        Err(format!("{}: {counts}; wanted: {wanted:?}", wanted.name))
    }

    pub(super) fn flow_figure(&mut self, wanted: &FlowFigure) -> Result<(), String> {
        let (counts, planned) =
            self.count_flows(&wanted.name, wanted.since.as_deref(), wanted.until.as_deref())?;
        self.tell(&format!("{}: {counts}", wanted.name));
        let figure = Figure::single(wanted.what.of(&counts) as f64, "flows", planned);
        self.record(&wanted.figure, figure, wanted.goal.as_deref())
    }

    /// Between two marks, and how many flows there are in all.
    fn count_flows(
        &self,
        name: &str,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<(Counts, usize), String> {
        let since = since.map_or(Ok(Moment::ZERO), |mark| self.mark(mark))?;
        let until = until.map_or(Ok(Moment::MAX), |mark| self.mark(mark))?;
        let client = self.flows.get(name).ok_or_else(|| format!("there are no flows {name}"))?;
        Ok(client.look(|record| (record.counts(since, until), record.planned())))
    }
}
