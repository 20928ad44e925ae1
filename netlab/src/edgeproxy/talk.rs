//! One request to the router's admin socket, without starting its command line: HTTP/1.1 over a Unix socket.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

/// A status document of thousands of backends fits many times.
const MAX_ANSWER: usize = 64 << 20;

/// Status and body of the answer.
///
/// # Errors
/// `TimedOut` when the answer is not whole `within` this time; the socket's, as when nobody listens.
pub fn ask(socket: &Path, method: &str, target: &str, within: Duration) -> io::Result<(u16, String)> {
    let deadline = Instant::now() + within;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    };
    exchange(socket, method, target, left).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let words = format!("no answer within {} ms", within.as_millis());
                io::Error::new(io::ErrorKind::TimedOut, words)
            }
            _ => error,
        };
        io::Error::new(why.kind(), format!("{method} {target} at {}: {why}", socket.display()))
    })
}

fn exchange(
    path: &Path,
    method: &str,
    target: &str,
    left: impl Fn() -> io::Result<Duration>,
) -> io::Result<(u16, String)> {
    let mut socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Bounds the connect too: a stopped process lets its listen queue fill up.
    socket.set_write_timeout(Some(left()?))?;
    socket.connect(&SockAddr::unix(path)?)?;
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: edgeproxy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        socket.set_read_timeout(Some(left()?))?;
        match socket.read(&mut buffer)? {
            0 => return parse(&answer),
            count => answer.extend_from_slice(&buffer[..count]),
        }
        if answer.len() > MAX_ANSWER {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the answer does not end"));
        }
    }
}

fn parse(answer: &[u8]) -> io::Result<(u16, String)> {
    let strange = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let answer = std::str::from_utf8(answer).map_err(|_| strange("the answer is no text"))?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| strange("closed before a whole answer"))?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match (status, length) {
        (None, _) => Err(strange("the answer is not HTTP")),
        (_, None) => Err(strange("the answer does not say its length")),
        (_, Some(length)) if length != body.len() => Err(strange("the answer is cut off")),
        (Some(status), _) => Ok((status, body.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let whole = b"HTTP/1.1 422 Unprocessable\r\ncontent-length: 3\r\n\r\nno\n";
        assert_eq!(parse(whole).unwrap(), (422, "no\n".to_owned()));
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_socket_that_never_answers_costs_the_deadline_only() {
        let path = std::env::temp_dir().join(format!("netlab-talk-{}", std::process::id()));
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = ask(&path, "GET", "/v1/status", Duration::from_millis(50)).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
}
