//! What `edgeproxy explain` must say of a prefix, and what must be true of what it says.

use serde::Deserialize;

/// `expect: explain:`: on the screen and in the document alike.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectExplanation {
    pub at: String,
    pub prefix: String,
    pub state: String,
    pub reason: String,
    /// A mark after which the state became what it is; without it, the state is older than the last decision.
    pub since: Option<String>,
    /// Parts of the sentence that says why.
    pub why: Vec<String>,
    /// A part of the sentence that says what would change it.
    pub change: String,
    /// Other parts of the screen.
    #[serde(default)]
    pub shows: Vec<String>,
    /// The only neighbor's host: what it was told, by the explanation, is what its table has.
    pub told: String,
    /// What the journal has under the cause of the last decision, the oldest first: `verdict`, `operator`,
    /// `decision`, `update`. With an update in it, the explanation names this cause too.
    pub chain: Vec<String>,
}
