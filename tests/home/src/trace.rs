//! What nft's trace says of one packet.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use vpnd::firewall::TABLE;

use crate::ns::Netns;

/// Every packet is traced from its first hook on, by a table of the test's own.
const TRACER: &str = "table inet tracer {
    chain first { type filter hook prerouting priority -1000; meta nftrace set 1; }
}
";
/// After the last line: the kernel says everything before the sender's call returns.
const QUIET: Duration = Duration::from_millis(300);
/// For the monitor to listen.
const READY: Duration = Duration::from_secs(10);

/// The rules of vpnd's that matched the packets that `send` sends, as nft writes them.
///
/// # Errors
/// When nft cannot be run.
pub fn rules_passed(router: &Netns, send: impl FnOnce() -> Result<()>) -> Result<Vec<String>> {
    router.nft(TRACER)?;
    let mut command = Command::new("nft");
    command.args(["monitor", "trace"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut monitor = router.spawn(&mut command)?;
    let lines = BufReader::new(monitor.stdout.take().context("no stdout")?).lines();
    let (sender, receiver) = mpsc::channel();
    let reader =
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let seen = listen(router, &receiver).and_then(|()| {
        send()?;
        let mut seen = Vec::new();
        while let Ok(line) = receiver.recv_timeout(QUIET) {
            seen.push(line);
        }
        Ok(seen)
    });
    monitor.kill()?;
    monitor.wait()?;
    let _ = reader.join();
    router.nft("delete table inet tracer")?;
    let ours = format!(" inet {TABLE} ");
    Ok(seen?.into_iter().filter(|line| line.contains(&ours) && line.contains(" rule ")).collect())
}

/// Until the monitor hears: packets of the router's own are traced meanwhile.
fn listen(router: &Netns, lines: &mpsc::Receiver<String>) -> Result<()> {
    let end = std::time::Instant::now() + READY;
    loop {
        router.enter(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            socket.send_to(b"x", "127.0.0.1:9")?;
            Ok(())
        })?;
        if lines.recv_timeout(Duration::from_millis(50)).is_ok() {
            break;
        }
        if std::time::Instant::now() > end {
            anyhow::bail!("nft monitor trace says nothing");
        }
    }
    while lines.recv_timeout(QUIET).is_ok() {}
    Ok(())
}
