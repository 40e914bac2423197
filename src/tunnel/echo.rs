//! ICMP (RFC 792) and ICMPv6 (RFC 4443) echo, as bytes. All fields are in network order, written
//! byte by byte, so that both endiannesses give the same packet.

use std::net::IpAddr;

/// Random, so that nobody who does not see the requests can make an answer.
pub(super) const COOKIE: usize = 16;
const ICMP_HEADER: usize = 8;
const ICMP_PROTOCOL: u8 = 1;

/// What an answer must repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub id: u16,
    pub sequence: u16,
    pub cookie: [u8; COOKIE],
}

/// IP header in bytes.
pub(super) fn ip_header(to: IpAddr) -> usize {
    if to.is_ipv4() { 20 } else { 40 }
}

/// The smallest echo packet, in bytes with the IP header.
pub(super) fn least_size(to: IpAddr) -> usize {
    ip_header(to) + ICMP_HEADER + COOKIE
}

/// An echo request that is `size` bytes with its IP header (which the kernel adds); at least
/// [`least_size`]. The kernel also fills in the ICMPv6 checksum (RFC 3542 section 3.1).
pub(super) fn request(to: IpAddr, ids: &Ids, size: usize) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(ids.id.to_be_bytes());
    packet.extend(ids.sequence.to_be_bytes());
    packet.extend(ids.cookie);
    packet.resize(size.max(least_size(to)) - ip_header(to), 0);
    if to.is_ipv4() {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

/// What an echo reply from `from` repeats, or None for any other packet. A raw IPv4 socket gives
/// the IP header too, an IPv6 one does not; ICMPv6 checksums were verified by the kernel.
pub(super) fn parse_reply(from: IpAddr, packet: &[u8]) -> Option<Ids> {
    let (icmp, kind) = if from.is_ipv4() {
        let first = *packet.first()?;
        let header = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header < 20 || *packet.get(9)? != ICMP_PROTOCOL {
            return None;
        }
        let icmp = packet.get(header..)?;
        if checksum(icmp) != 0 {
            return None;
        }
        (icmp, 0)
    } else {
        (packet, 129)
    };
    let word = |at: usize| Some(u16::from_be_bytes([*icmp.get(at)?, *icmp.get(at + 1)?]));
    if word(0)? != u16::from_be_bytes([kind, 0]) {
        return None;
    }
    let cookie = icmp.get(ICMP_HEADER..ICMP_HEADER + COOKIE)?.try_into().ok()?;
    Some(Ids { id: word(4)?, sequence: word(6)?, cookie })
}

/// The Internet checksum (RFC 1071); 0 over data that holds its own right checksum.
fn checksum(data: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in data.chunks(2) {
        let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum += u32::from(u16::from_be_bytes(word));
        // Folded at once: it cannot overflow however long the data are.
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::from_be_bytes([sum.to_be_bytes()[2], sum.to_be_bytes()[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDS: Ids = Ids { id: 0x1234, sequence: 0xfffe, cookie: [0xa5; COOKIE] };

    fn v4() -> IpAddr {
        "10.64.0.1".parse().unwrap()
    }
    fn v6() -> IpAddr {
        "fd64::1".parse().unwrap()
    }

    fn v4_header(options: usize, protocol: u8) -> Vec<u8> {
        let mut header = vec![0; 20 + options * 4];
        header[0] = 0x45 + u8::try_from(options).unwrap();
        header[9] = protocol;
        header
    }

    fn v4_reply(options: usize, protocol: u8) -> Vec<u8> {
        let mut icmp = request(v4(), &IDS, 100);
        icmp[0] = 0;
        icmp[2..4].fill(0);
        let sum = checksum(&icmp).to_be_bytes();
        icmp[2..4].copy_from_slice(&sum);
        let mut packet = v4_header(options, protocol);
        packet.extend(icmp);
        packet
    }

    #[test]
    fn checksum_is_that_of_rfc_1071() {
        // The example of RFC 1071 section 3: the sum is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0x01]), !0x0100);
        assert_eq!(checksum(&[]), 0xffff);
    }

    #[test]
    fn request_is_network_order_and_of_the_size_asked_for() {
        let packet = request(v4(), &IDS, 1420);
        assert_eq!(packet.len(), 1400);
        assert_eq!(packet[..2], [8, 0]);
        assert_eq!(packet[4..8], [0x12, 0x34, 0xff, 0xfe]);
        assert_eq!(checksum(&packet), 0);
        let packet = request(v6(), &IDS, 1280);
        assert_eq!((packet.len(), packet[0]), (1240, 128));
        assert_eq!(request(v6(), &IDS, 0).len(), 24);
    }

    #[test]
    fn reply_is_read_back() {
        assert_eq!(parse_reply(v4(), &v4_reply(0, 1)), Some(IDS));
        assert_eq!(parse_reply(v4(), &v4_reply(3, 1)), Some(IDS), "with IP options");
        let mut packet = request(v6(), &IDS, 100);
        packet[0] = 129;
        assert_eq!(parse_reply(v6(), &packet), Some(IDS));
    }

    #[test]
    fn other_packets_are_none() {
        assert_eq!(parse_reply(v4(), &v4_reply(0, 17)), None, "not ICMP");
        let mut flipped = v4_reply(0, 1);
        flipped[60] ^= 1;
        assert_eq!(parse_reply(v4(), &flipped), None, "checksum");
        let mut asked = v4_header(0, 1);
        asked.extend(request(v4(), &IDS, 100));
        assert_eq!(parse_reply(v4(), &asked), None, "a request");
        assert_eq!(parse_reply(v6(), &request(v6(), &IDS, 100)), None, "a request");
        for length in 0..44 {
            assert_eq!(parse_reply(v4(), &v4_reply(0, 1)[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = parse_reply(v4(), &bytes);
            let _ = parse_reply(v6(), &bytes);
        }
    }
}
