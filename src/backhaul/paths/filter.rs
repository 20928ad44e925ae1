//! Gives the packet filter its rules, through the program `nft`.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::backhaul::guard;
use crate::config::backhaul::Backhaul;

const PATIENCE: Duration = Duration::from_secs(5);

/// Writes the table anew, in one transaction.
pub(super) async fn set(config: &Backhaul) -> io::Result<()> {
    run(&guard::rules(config)).await
}

/// Takes the table away. That there is none any more is no error.
pub(super) async fn remove() {
    let _ = run(&guard::removal()).await;
}

async fn run(rules: &str) -> io::Result<()> {
    let asked = async {
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let hint = if error.kind() == io::ErrorKind::NotFound { ": install nftables" } else { "" };
                io::Error::new(error.kind(), format!("cannot start nft: {error}{hint}"))
            })?;
        if let Some(mut stdin) = nft.stdin.take() {
            stdin.write_all(rules.as_bytes()).await?;
        }
        nft.wait_with_output().await
    };
    let output = timeout(PATIENCE, asked).await.map_err(|_| io::Error::other("nft does not answer"))??;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().next().unwrap_or("without a word");
    Err(io::Error::other(format!("nft refuses the rules: {words}")))
}
