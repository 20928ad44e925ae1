//! Asks the data plane where it would take a client, and adds what the checks know.
#![expect(clippy::disallowed_methods, reason = "driver: waits for the data plane no longer than it may")]

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Inputs;
use super::routes::{Answer, WantedChoice};
use crate::observe::status::ServiceStatus;
use crate::observe::status::choice::{ChoiceCall, ChoiceStatus, UnknownService};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The answer for one client.
pub(super) async fn choice(inputs: &Inputs, wanted: WantedChoice) -> Answer {
    let WantedChoice { client, service } = wanted;
    let (reply, answer) = oneshot::channel();
    let call = ChoiceCall { service: service.clone(), client, reply };
    if inputs.choices.try_send(call).is_err() {
        return Answer::refusal(503, "the data plane is busy with other questions, or stops: ask again");
    }
    match timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(mut choice))) => {
            add_checks(&mut choice, &inputs.services.borrow());
            Answer::json(&choice)
        }
        Ok(Ok(Err(UnknownService(known)))) => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Answer::refusal(404, &format!("there is no service {service}; there are: {known}"))
        }
        Ok(Err(_)) => Answer::refusal(503, "edgeproxy dropped the question: it is stopping"),
        Err(_) => {
            Answer::refusal(504, "the data plane does not answer: it hangs, or the machine is too busy")
        }
    }
}

/// The choice knows that a backend is down; its check knows why, and the round trip is newer there.
fn add_checks(choice: &mut ChoiceStatus, services: &[ServiceStatus]) {
    let Some(service) = services.iter().find(|it| it.service == choice.service) else { return };
    for candidate in &mut choice.backends {
        if let Some(backend) = service.backends.iter().find(|it| it.id == candidate.id) {
            // What was true of another verdict is no reason for this one.
            candidate.error = backend.error.clone().filter(|_| backend.verdict == candidate.verdict);
            candidate.rtt_us = backend.rtt_us.or(candidate.rtt_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    #[test]
    fn a_backend_that_is_down_says_why() {
        let mut choice = samples::choice();
        choice.service = "web".into();
        add_checks(&mut choice, &samples::services());
        let words: Vec<_> = choice.backends.iter().map(|it| (it.error.as_deref(), it.rtt_us)).collect();
        assert_eq!(
            words,
            [(None, Some(1_250)), (Some("connection refused"), None), (None, None), (None, Some(500))]
        );
        // It has come up since, or is another service's.
        choice.backends[1].verdict = "up".into();
        add_checks(&mut choice, &samples::services());
        assert_eq!(choice.backends[1].error, None);
    }
}
