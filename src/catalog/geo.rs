//! Where clients are: countries from an mmdb file, and the region of a country.

/// A loaded database.
#[derive(Debug)]
pub struct Geo;
