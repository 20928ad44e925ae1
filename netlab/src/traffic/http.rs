//! A client of short TCP connections: connect, one GET, read the answer, and count who gave it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::{Error, lock};
use crate::moment::Moment;

/// The last answers kept one by one; all are counted.
const MAX_LOG: usize = 100_000;
const MAX_ANSWER: u64 = 64 << 10;

/// What to ask, how often.
#[derive(Debug, Clone)]
pub struct Options {
    pub target: SocketAddr,
    /// The source address; the system's choice if `None`.
    pub source: Option<IpAddr>,
    pub path: String,
    pub host: String,
    /// From the start of one request to the start of the next, at least.
    pub interval: Duration,
    /// For connecting, and again for each read.
    pub timeout: Duration,
}

/// What the requests came to.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    pub asked: u64,
    /// Status 2xx, by body (trimmed): who answered.
    pub by: BTreeMap<String, u64>,
    /// Everything else, by what happened: `connection refused`, `status 503`, …
    pub failures: BTreeMap<String, u64>,
    /// The latest requests: when asked, and the body or the failure.
    pub log: VecDeque<(Moment, Result<String, String>)>,
}

/// A loop on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct HttpClient {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    answers: Mutex<Answers>,
    stop: AtomicBool,
}

impl Options {
    pub fn new(target: SocketAddr) -> Options {
        Options {
            target,
            source: None,
            path: "/".to_owned(),
            host: target.to_string(),
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
        }
    }
}

impl HttpClient {
    /// Starts in the calling thread's network namespace.
    pub fn start(options: Options) -> Result<HttpClient, Error> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("http-client".to_owned())
            .spawn(move || ask_until_stopped(&for_thread, &options))
            .map_err(Error::Thread)?;
        Ok(HttpClient { shared, thread: Some(thread) })
    }

    pub fn look<T>(&self, with: impl FnOnce(&Answers) -> T) -> T {
        with(&lock(&self.shared.answers))
    }

    pub fn stop(mut self) -> Answers {
        self.end();
        std::mem::take(&mut *lock(&self.shared.answers))
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for HttpClient {
    fn drop(&mut self) {
        self.end();
    }
}

/// One request: the body of a 2xx answer, or what went wrong, in words.
pub fn ask(options: &Options) -> Result<String, String> {
    let answer = exchange(options).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => error.to_string(),
    })?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("closed before an answer")?;
    match head.split_whitespace().nth(1) {
        Some(status) if status.starts_with('2') => Ok(body.trim().to_owned()),
        Some(status) => Err(format!("status {status}")),
        None => Err("not HTTP".to_owned()),
    }
}

fn ask_until_stopped(shared: &Shared, options: &Options) {
    while !shared.stop.load(Ordering::Acquire) {
        let at = Moment::now();
        let answer = ask(options);
        let mut answers = lock(&shared.answers);
        answers.asked += 1;
        let (counts, key) = match &answer {
            Ok(body) => (&mut answers.by, body),
            Err(failure) => (&mut answers.failures, failure),
        };
        // Bounded whatever the other side says.
        let key = if counts.len() < 256 { key.as_str() } else { "(others)" };
        *counts.entry(key.to_owned()).or_default() += 1;
        if answers.log.len() >= MAX_LOG {
            answers.log.pop_front();
        }
        answers.log.push_back((at, answer));
        drop(answers);
        thread::sleep((at + options.interval).since(Moment::now()));
    }
}

fn exchange(options: &Options) -> io::Result<Vec<u8>> {
    let socket = Socket::new(Domain::for_address(options.target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = options.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&options.target.into(), options.timeout)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(options.timeout))?;
    stream.set_write_timeout(Some(options.timeout))?;
    let (path, host) = (&options.path, &options.host);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_answered_and_what_failed_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = Options::new(listener.local_addr().unwrap());
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngru1\n",
            "HTTP/1.0 503 No\r\n\r\nsorry",
            "",
            "SSH-2.0-x\r\n",
        ];
        let server = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let count = stream.read(&mut request).unwrap();
                assert!(request[..count].starts_with(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(ask(&options), Ok("gru1".to_owned()));
        assert_eq!(ask(&options), Err("status 503".to_owned()));
        assert_eq!(ask(&options), Err("closed before an answer".to_owned()));
        assert_eq!(ask(&options), Err("closed before an answer".to_owned()));
        server.join().unwrap();
        assert_eq!(ask(&options), Err("connection refused".to_owned()));

        let client = HttpClient::start(options).unwrap();
        while client.look(|answers| answers.asked < 3) {
            thread::yield_now();
        }
        let answers = client.stop();
        assert_eq!(answers.failures, BTreeMap::from([("connection refused".to_owned(), answers.asked)]));
        assert!(answers.by.is_empty() && answers.log.len() as u64 == answers.asked);
    }
}
