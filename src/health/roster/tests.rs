//! Tests of the roster: tables, and any order of events.
