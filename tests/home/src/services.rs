//! What the internet and the relays serve, and how a client asks for it: every answer names the
//! address that the question came from, so that a client knows which way it went.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ns::Netns;

/// The port of the echo services, UDP and TCP.
pub const ECHO: u16 = 7;

/// Answers on `address` (UDP and TCP) for as long as the process lives.
///
/// # Errors
/// When the port cannot be had.
pub fn echo(ns: &Netns, address: IpAddr, port: u16) -> Result<()> {
    let (udp, tcp) = ns.enter(|| {
        let at = SocketAddr::new(address, port);
        let udp = UdpSocket::bind(at).with_context(|| format!("UDP {at}"))?;
        let tcp = TcpListener::bind(at).with_context(|| format!("TCP {at}"))?;
        Ok((udp, tcp))
    })?;
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(from.ip().to_string().as_bytes(), from);
        }
    });
    std::thread::spawn(move || {
        while let Ok((stream, from)) = tcp.accept() {
            std::thread::spawn(move || serve(stream, from.ip()));
        }
    });
    Ok(())
}

fn serve(mut stream: TcpStream, from: IpAddr) {
    let mut buffer = [0; 65536];
    while let Ok(1..) = stream.read(&mut buffer) {
        if stream.write_all(format!("{from}\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// Asks over UDP; the address that the service saw, or None without an answer.
///
/// # Errors
/// When no socket can be made.
pub fn ask_udp(ns: &Netns, to: IpAddr, limit: Duration) -> Result<Option<IpAddr>> {
    ns.enter(|| ask_once(to, limit))
}

/// As [`ask_udp`], in the calling thread's namespace.
///
/// # Errors
/// When no socket can be made.
pub fn ask_once(to: IpAddr, limit: Duration) -> Result<Option<IpAddr>> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(limit))?;
    if socket.connect((to, ECHO)).and_then(|()| socket.send(b"who am I")).is_err() {
        return Ok(None);
    }
    let mut buffer = [0; 100];
    let Ok(got) = socket.recv(&mut buffer) else { return Ok(None) };
    Ok(std::str::from_utf8(buffer.get(..got).unwrap_or_default()).ok().and_then(|t| t.parse().ok()))
}

/// Asks over TCP; as [`ask_udp`].
///
/// # Errors
/// When the namespace cannot be entered.
pub fn ask_tcp(ns: &Netns, to: IpAddr, limit: Duration) -> Result<Option<IpAddr>> {
    ns.enter(|| {
        let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::new(to, ECHO), limit) else {
            return Ok(None);
        };
        Ok(talk(&mut stream, limit))
    })
}

/// One question on a connection that is there.
pub fn talk(stream: &mut TcpStream, limit: Duration) -> Option<IpAddr> {
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(b"who am I").ok()?;
    let mut buffer = [0; 100];
    let got = stream.read(&mut buffer).ok()?;
    std::str::from_utf8(buffer.get(..got)?).ok()?.trim().parse().ok()
}

/// One echo request by the system's ping.
///
/// # Errors
/// When ping cannot be run.
pub fn ping(ns: &Netns, to: IpAddr, seconds: u32) -> Result<bool> {
    let family = if to.is_ipv4() { "-4" } else { "-6" };
    let wait = seconds.to_string();
    let output = ns.output("ping", &[family, "-c", "1", "-W", &wait, &to.to_string()], "")?;
    Ok(output.status.success())
}

/// Pushes `amount` bytes over one TCP connection to the echo service; how many it took and
/// answered for. Called inside a namespace.
///
/// # Errors
/// When there is no connection.
pub fn bulk(to: IpAddr, amount: usize) -> Result<usize> {
    let limit = Duration::from_secs(30);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, ECHO), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut reader = stream.try_clone()?;
    // The answers, one per read of the service, must not pile up.
    let answers = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut total = 0;
        while let Ok(got @ 1..) = reader.read(&mut buffer) {
            total += got;
        }
        total
    });
    let chunk = [b'x'; 10_000];
    let mut moved = 0;
    while moved < amount {
        stream.write_all(&chunk)?;
        moved += chunk.len();
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let answered = answers.join().unwrap_or(0);
    Ok(if answered > 0 { moved } else { 0 })
}
