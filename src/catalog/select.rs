//! The choice of a backend: v1's score, lowest wins, and chance among equals.
