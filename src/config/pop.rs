//! The `pop` section: who and where this point of presence is.

/// One point of presence.
#[derive(Debug, Clone, PartialEq)]
pub struct Pop {
    /// Unique in the fleet: 1 to 32 of `a-z 0-9 -`, starting with a letter.
    pub id: String,
    /// A region's code, 2 to 8 of `a-z 0-9`; `sa us eu ap` have meaning built in.
    pub region: String,
    /// Latitude and longitude in degrees.
    pub location: Option<(f64, f64)>,
}
