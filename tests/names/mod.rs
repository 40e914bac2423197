//! Questions and answers of RFC 1035, as far as the tests need them, and resolvers that answer with their own name.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    From(Ipv4Addr),
    /// By a resolver.
    Refused,
    /// By a packet filter: an ICMP error or a TCP reset.
    Unreachable,
    Nothing,
}

/// Section 4.1: the question, and an answer that points at its name.
fn answer(query: &[u8], own: Ipv4Addr) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|&byte| byte == 0).unwrap() + 5;
    let mut answer = query[..end].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    answer.extend(own.octets());
    answer
}

/// Answers each query for an address with `own`, by UDP and TCP; counts them.
pub fn resolver(address: &str, own: Ipv4Addr) -> Arc<AtomicU32> {
    let address: IpAddr = address.parse().unwrap();
    let (socket, listener) =
        (UdpSocket::bind((address, 53)).unwrap(), TcpListener::bind((address, 53)).unwrap());
    let count = Arc::new(AtomicU32::new(0));
    let (by_udp, by_tcp) = (Arc::clone(&count), Arc::clone(&count));
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            by_udp.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send_to(&answer(&query[..length], own), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut query = [0; 512];
            let Ok(length) = stream.read(&mut query) else { continue };
            if length > 14 {
                by_tcp.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(&framed(&answer(&query[2..length], own)));
            }
        }
    });
    count
}

/// Section 4.2.2.
fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// A name never asked before: dnsmasq keeps answers.
fn query(number: &mut u32) -> Vec<u8> {
    *number += 1;
    let name = format!("n{number}");
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
    query.extend(name.bytes());
    query.extend(b"\x07example\0\0\x01\0\x01");
    query
}

fn read(reply: std::io::Result<Vec<u8>>) -> Answer {
    match reply {
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            Answer::Nothing
        }
        Err(_) => Answer::Unreachable,
        Ok(reply) if reply[3] & 15 == 5 => Answer::Refused,
        Ok(reply) => Answer::From(<[u8; 4]>::try_from(&reply[reply.len() - 4..]).unwrap().into()),
    }
}

pub fn ask(to: SocketAddr, number: &mut u32) -> (Answer, Duration) {
    let query = query(number);
    let start = Instant::now();
    let reply = || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        // Nobody else's answer is taken, and ICMP errors are heard.
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&query)?;
        let mut reply = vec![0; 512];
        let length = socket.recv(&mut reply)?;
        reply.truncate(length);
        Ok(reply)
    };
    (read(reply()), start.elapsed())
}

pub fn ask_by_tcp(to: SocketAddr, number: &mut u32) -> (Answer, Duration) {
    let query = query(number);
    let start = Instant::now();
    let reply = || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&framed(&query))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply)?;
        Ok(reply)
    };
    (read(reply()), start.elapsed())
}
