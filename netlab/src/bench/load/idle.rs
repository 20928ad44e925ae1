//! Connections that were used once and then rest.

use std::io;
use std::net::TcpStream;

use super::PATIENCE;
use crate::bench::frame::Ask;
use crate::bench::link::{Link, Target};

/// Opens so many, one exchange on each, and answers them open.
///
/// # Errors
/// When one of them fails: with its number.
pub fn open(target: &Target, connections: usize) -> io::Result<Vec<TcpStream>> {
    let one = |number: usize| {
        let mut link = Link::dial(target)?;
        link.exchange(&Ask::Keep.frame(number as u64), PATIENCE)?;
        Ok(link.into_stream())
    };
    (0..connections)
        .map(|number| {
            one(number).map_err(|error: io::Error| {
                io::Error::new(error.kind(), format!("idle connection {number}: {error}"))
            })
        })
        .collect()
}
