//! Two hosts, a link between them, and a tunnel over it whose ends run.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::cores::{self, Cores};
use super::super::usage::Tree;
use super::peer::{End, Keys, Peer, Side};
use crate::link;
use crate::namespace::Namespace;
use crate::wireguard::KeyPair;

/// How long the tunnel may take until it carries something.
const START: Duration = Duration::from_secs(20);

/// A tunnel with both ends. Dropping it ends everything.
#[derive(Debug)]
pub struct Pair {
    ends: [End; 2],
    trees: [Tree; 2],
    pub left: Namespace,
    pub right: Namespace,
    cores: Option<Cores>,
}

impl Pair {
    /// Starts both ends and waits until a datagram goes through and back.
    ///
    /// # Errors
    /// When the network cannot be built, or nothing comes through, with the last words of both ends.
    pub fn start(peer: Peer, work: &Path, cores: Option<Cores>) -> io::Result<Self> {
        let (left, right) = (Namespace::create("left")?, Namespace::create("right")?);
        let outside = |side: Side| vec![format!("{}/24", side.outside())];
        link::connect(
            &link::End { host: &left, interface: "far0", addresses: &outside(Side::Left) },
            &link::End { host: &right, interface: "far0", addresses: &outside(Side::Right) },
        )?;
        let keys = Keys { left: KeyPair::generate()?, right: KeyPair::generate()? };
        let start = |side: Side, host: &Namespace| {
            host.ip(&["addr", "add", &format!("{}/128", side.inside()), "dev", "lo", "nodad"])?;
            let work = work.join(peer.word()).join(host.name());
            let _ = std::fs::remove_dir_all(&work);
            let begin = || peer.start(side, &keys, host, &work);
            match cores {
                // What a thread starts runs where the thread may.
                Some(cores) => cores::pinned(core(cores, side), begin)?,
                None => begin(),
            }
        };
        let mut ends = [start(Side::Left, &left)?, start(Side::Right, &right)?];
        let trees = [0, 1].map(|end| Tree::of(ends[end].pid().unwrap_or(0)));
        let pair = Self { ends, trees, left, right, cores };
        pair.wait().map_err(|error| io::Error::other(format!("{error}\n{}", pair.tails())))?;
        Ok(pair)
    }

    fn wait(&self) -> io::Result<()> {
        let bind = |side: Side, host: &Namespace| {
            let socket = host.run(|| UdpSocket::bind((side.inside(), 9)))??;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok::<_, io::Error>(socket)
        };
        let (left, right) = (bind(Side::Left, &self.left)?, bind(Side::Right, &self.right)?);
        let deadline = Instant::now() + START;
        let mut buffer = [0; 64];
        loop {
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!("nothing comes through within {} s", START.as_secs())));
            }
            // One end begins and the other answers: if both begin in the same moment, wireguard-go drops the answers
            // of both, again and again. No route yet is no fault.
            let _ = left.send_to(b"through", SocketAddr::from((Side::Right.inside(), 9)));
            if right.recv(&mut buffer).is_ok() {
                let _ = right.send_to(b"through", SocketAddr::from((Side::Left.inside(), 9)));
                if left.recv(&mut buffer).is_ok() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Processor seconds of both processes.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.trees.iter().map(Tree::seconds).sum()
    }

    /// Resident memory of the larger process, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> f64 {
        self.trees.iter().map(Tree::resident_kib).max().unwrap_or(0) as f64
    }

    /// Binds the calling thread, a load of this end, to the end's processor.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pin(&self, side: Side) -> io::Result<()> {
        self.cores.map_or(Ok(()), |cores| cores::pin(core(cores, side)))
    }

    /// The last words of both ends.
    #[must_use]
    pub fn tails(&self) -> String {
        self.ends.iter().map(|end| end.tail(8)).collect::<Vec<_>>().join("\n--\n")
    }
}

fn core(cores: Cores, side: Side) -> usize {
    match side {
        Side::Left => cores.load,
        Side::Right => cores.proxy,
    }
}
