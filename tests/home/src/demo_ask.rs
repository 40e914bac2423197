//! What a device of the LAN sees when it asks the internet, measured with an ordinary socket.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::house::{at, ip};
use crate::ns::Netns;
use crate::services::{ECHO, talk};

/// What a LAN client's connection came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The host answered and says whom it sees.
    Seen {
        by: IpAddr,
        after: Duration,
    },
    /// The router refused, with the error that the client's program gets.
    Refused {
        error: String,
        after: Duration,
    },
    Silence {
        after: Duration,
    },
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |d: &Duration| format!("{:.1} ms", d.as_secs_f64() * 1000.0);
        match self {
            Self::Seen { by, after } => write!(f, "reply in {}, from exit {by} ({})", ms(after), whose(*by)),
            Self::Refused { error, after } => write!(f, "refused in {} ({error})", ms(after)),
            Self::Silence { after } => write!(f, "no answer in {:.1} s", after.as_secs_f64()),
        }
    }
}

/// Lets the television open a TCP connection to the internet host, over IPv4 and IPv6 at once.
///
/// # Errors
/// When the harness fails.
pub fn ask(tv: &Netns, patience: Duration) -> Result<[Answer; 2]> {
    let one = |address: &str| {
        let to = SocketAddr::new(ip(address), ECHO);
        tv.enter(|| Ok(ask_one(to, patience)))
    };
    std::thread::scope(|scope| {
        let v6 = scope.spawn(|| one(at::INTERNET[1]));
        let v4 = one(at::INTERNET[0])?;
        let Ok(v6) = v6.join() else { bail!("the asking thread panicked") };
        Ok([v4, v6?])
    })
}

fn ask_one(to: SocketAddr, patience: Duration) -> Answer {
    let start = Instant::now();
    let told = TcpStream::connect_timeout(&to, patience).map(|mut stream| talk(&mut stream, patience));
    let after = start.elapsed();
    match told {
        Ok(Some(by)) => Answer::Seen { by, after },
        Ok(None) => Answer::Silence { after },
        Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Answer::Silence { after }
        }
        Err(e) => {
            let text = e.to_string();
            let error = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
            Answer::Refused { error, after }
        }
    }
}

/// Which host an address is, for people.
#[must_use]
pub fn whose(address: IpAddr) -> String {
    let is = |texts: &[&str]| texts.iter().any(|t| ip(t) == address);
    if is(&at::ROUTER_WAN) {
        return "the router".to_owned();
    }
    if is(&at::TV) {
        return "the tv itself".to_owned();
    }
    match at::RELAYS.iter().position(|pair| is(pair)) {
        Some(n) => format!("r{}", n + 1),
        None => "nobody of this house".to_owned(),
    }
}
