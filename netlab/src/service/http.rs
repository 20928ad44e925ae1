//! As much HTTP/1.1 as a backend of the lab needs: where a request ends, whether the connection goes on, and the answer.

/// A longer head ends the connection.
pub const MAX_HEAD: usize = 16 << 10;

/// One request head at the start of what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Octets of the head and of the body that it announces.
    pub len: usize,
    /// Whether the connection serves another request afterwards (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The answer has a head only (RFC 9110 §9.3.2).
    pub without_body: bool,
}

/// Looks for a whole head; `None` while it is not there yet.
#[must_use]
pub fn head(read: &[u8]) -> Option<Head> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..end]);
    let mut lines = text.split("\r\n");
    let request = lines.next().unwrap_or_default();
    let mut keep_alive = request.ends_with("HTTP/1.1");
    let mut body = 0usize;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("connection") {
            keep_alive = match value.to_ascii_lowercase().as_str() {
                "close" => false,
                "keep-alive" => true,
                _ => keep_alive,
            };
        } else if name.eq_ignore_ascii_case("content-length") {
            body = value.parse().unwrap_or(0);
        }
    }
    Some(Head { len: end.saturating_add(body), keep_alive, without_body: request.starts_with("HEAD ") })
}

/// The whole answer: the name as a line.
#[must_use]
pub fn answer(status: u16, name: &str, head: Head) -> Vec<u8> {
    let connection = if head.keep_alive { "keep-alive" } else { "close" };
    let length = name.len() + 1;
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n",
        phrase(status)
    );
    if !head.without_body {
        text.push_str(name);
        text.push('\n');
    }
    text.into_bytes()
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "As Told",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read; length, keep-alive, without body.
    type Row = (&'static [u8], Option<(usize, bool, bool)>);

    #[test]
    fn a_head_is_found_once_it_is_whole_and_says_whether_to_go_on() {
        let table: [Row; 6] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", Some((27, true, false))),
            (b"GET / HTTP/1.1\r\nconnection: Close\r\n\r\n", Some((37, false, false))),
            (b"GET / HTTP/1.0\r\n\r\n", Some((18, false, false))),
            (b"HEAD / HTTP/1.1\r\n\r\n", Some((19, true, true))),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", Some((43, true, false))),
        ];
        for (read, wanted) in table {
            let found = head(read).map(|head| (head.len, head.keep_alive, head.without_body));
            assert_eq!(found, wanted, "{}", String::from_utf8_lossy(read));
        }
    }

    #[test]
    fn an_answer_counts_its_body_and_a_head_has_none() {
        let head = Head { len: 0, keep_alive: false, without_body: false };
        let text = String::from_utf8(answer(500, "web-1", head)).unwrap();
        assert!(text.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 6\r\nConnection: close\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nweb-1\n"), "{text}");
        let text = String::from_utf8(answer(200, "web-1", Head { without_body: true, ..head })).unwrap();
        assert!(text.ends_with("\r\n\r\n"), "{text}");
    }
}
