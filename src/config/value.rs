//! Values as text -> typed values. An error is the end of a sentence that begins with the value.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::names::WireguardKey;
use super::settings::{PortProto, TunnelForward, WanService};

type Parsed<T> = Result<T, String>;

/// The words that UCI takes for a truth value.
pub(super) fn flag(text: &str) -> Parsed<bool> {
    match text {
        "1" | "yes" | "on" | "true" | "enabled" => Ok(true),
        "0" | "no" | "off" | "false" | "disabled" => Ok(false),
        _ => Err("is neither 1 nor 0".to_owned()),
    }
}

/// What fw4 takes for the name of a zone.
pub(super) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Decimal or hexadecimal with 0x.
pub(super) fn number32(text: &str) -> Parsed<u32> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let digits = hex.unwrap_or(text);
    // u32's own parser takes a sign, too.
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(digits, if hex.is_some() { 16 } else { 10 })
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| "is no number of 32 bits; 1234 or 0x4d2 are".to_owned())
}

pub(super) fn port(text: &str) -> Parsed<u16> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(format!("has no port in 1 to 65535 at '{}'", cut(text))),
    }
}

pub(super) fn address(text: &str) -> Parsed<IpAddr> {
    text.parse().map_err(|_| "is no IP address".to_owned())
}

/// An address with or without prefix length, host bits kept; a bare address is that host alone.
pub(super) fn interface_address(text: &str) -> Parsed<IpNet> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "is no address like 192.0.2.1/24 or 2001:db8::1/64".to_owned())
}

/// An address inside the tunnel, as a provider hands it out.
pub(super) fn tunnel_address(text: &str) -> Parsed<IpNet> {
    let net = interface_address(text)?;
    if let Some(what) = unfit(net.addr()).filter(|what| *what != "link-local") {
        return Err(format!("is {what}; the tunnel's own address is needed"));
    }
    if net.prefix_len() == 0 {
        return Err("covers the whole internet; a host's /32 or /128 is usual".to_owned());
    }
    Ok(net)
}

/// What a tunnel with these addresses can have as MTU, in bytes: IPv6 needs 1280 (RFC 8200,
/// section 5), IPv4 576 (RFC 1122, section 3.3.2).
pub(super) fn tunnel_mtu(text: &str, addresses: &[IpNet]) -> Parsed<u16> {
    let least: u16 = if addresses.iter().any(|net| net.addr().is_ipv6()) { 1280 } else { 576 };
    match text.parse::<u16>() {
        Ok(mtu) if mtu >= least => Ok(mtu),
        _ => Err(format!("is no MTU; {least} to 65535 bytes, or nothing to take it from the path")),
    }
}

pub(super) fn prefix(text: &str) -> Parsed<IpNet> {
    interface_address(text).map(|net| net.trunc())
}

/// For networks that rules and routes will name: a prefix so wide that it swallows the internet is
/// a mistake.
pub(super) fn narrow_prefix(text: &str) -> Parsed<IpNet> {
    let net = prefix(text)?;
    let least = if net.addr().is_ipv4() { 8 } else { 7 };
    if net.prefix_len() < least {
        return Err(format!("is wider than /{least}; name the networks one by one"));
    }
    if net.addr().is_loopback() || net.addr().is_unspecified() {
        return Err("is no network that packets can go to".to_owned());
    }
    Ok(net)
}

pub(super) fn unicast_prefix(text: &str) -> Parsed<IpNet> {
    let net = narrow_prefix(text)?;
    if net.addr().is_multicast() {
        return Err("is multicast; a unicast network is needed".to_owned());
    }
    Ok(net)
}

pub(super) fn multicast_prefix(text: &str) -> Parsed<IpNet> {
    let net = prefix(text)?;
    let least = if net.addr().is_ipv4() { 4 } else { 8 };
    if net.addr().is_multicast() && net.prefix_len() >= least {
        Ok(net)
    } else {
        Err("is no multicast group; one within 224.0.0.0/4 or ff00::/8 is needed".to_owned())
    }
}

/// A host that packets can be sent to; loopback counts only where `loopback` says so.
pub(super) fn host(text: &str, loopback: bool) -> Parsed<IpAddr> {
    let host = address(text)?;
    match unfit(host) {
        Some("loopback") if loopback => Ok(host),
        Some(what) => Err(format!("is {what}; a host's address is needed")),
        None => Ok(host),
    }
}

/// What makes an address no single host on a network (contract, section 3: endpoints).
pub(super) fn unfit(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("broadcast"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => Some("reserved"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80 => Some("link-local"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("IPv4 written as IPv6"),
        _ => None,
    }
}

/// An endpoint as written, before its range is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Address(SocketAddr),
    Name { host: String, port: u16 },
}

pub(super) fn endpoint(text: &str) -> Parsed<Endpoint> {
    let shape = || "is no endpoint; ADDRESS:PORT or [IPV6]:PORT is needed".to_owned();
    let (host, port_text) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or_else(shape)?,
        None => text.rsplit_once(':').ok_or_else(shape)?,
    };
    if host.contains(':') && !text.starts_with('[') {
        return Err("needs brackets around its IPv6 address, as in [2001:db8::1]:51820".to_owned());
    }
    let port = port(port_text)?;
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Endpoint::Address(SocketAddr::new(address, port)));
    }
    if text.starts_with('[') || !is_host_name(host) {
        return Err(shape());
    }
    Ok(Endpoint::Name { host: host.to_owned(), port })
}

/// RFC 1123, section 2.1, plus the underscore that some resolvers allow; never all digits and dots,
/// which is a mistyped address.
fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && text.trim_end_matches('.').split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

pub(super) fn key(text: &str) -> Parsed<WireguardKey> {
    let bytes = base64_32(text).ok_or_else(|| {
        "is no WireGuard key; 32 bytes in base64 (44 characters, the last is =) are needed".to_owned()
    })?;
    if bytes == [0; 32] {
        return Err("is all zero; that is no key".to_owned());
    }
    Ok(WireguardKey::new(bytes))
}

/// Strict base64 of exactly 32 bytes: 43 digits and one `=`; the unused low bits must be zero.
fn base64_32(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=')?;
    if digits.len() != 43 {
        return None;
    }
    let (mut out, mut at) = ([0_u8; 32], 0);
    let (mut bits, mut buffer) = (0_u32, 0_u32);
    for byte in digits.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(at)? = u8::try_from((buffer >> bits) & 0xff).ok()?;
            at += 1;
        }
    }
    (at == 32 && buffer & ((1 << bits) - 1) == 0).then_some(out)
}

/// The inverse of [`key`], for `import`, the only place that writes keys.
pub(super) fn base64(key: &WireguardKey) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(44);
    for chunk in key.bytes().chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..=chunk.len() {
            let index = (group >> (18 - 6 * digit)) & 0x3f;
            out.push(char::from(DIGITS[index as usize]));
        }
    }
    out.push('=');
    out
}

fn proto(text: &str) -> Parsed<PortProto> {
    match text {
        "tcp" => Ok(PortProto::Tcp),
        "udp" => Ok(PortProto::Udp),
        _ => Err("does not begin with tcp or udp".to_owned()),
    }
}

/// `tcp|udp PORT [SOURCE_PREFIX]`
pub(super) fn wan_service(text: &str) -> Parsed<WanService> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (proto_text, port_text, source) = match words.as_slice() {
        [proto, port] => (proto, port, None),
        [proto, port, source] => (proto, port, Some(source)),
        _ => return Err("is not of the form 'tcp|udp PORT [SOURCE_PREFIX]'".to_owned()),
    };
    let source = source.map(|text| prefix(text)).transpose()?;
    Ok(WanService { proto: proto(proto_text)?, port: port(port_text)?, source })
}

/// `tcp|udp PORT ADDRESS [PORT]`
pub(super) fn tunnel_forward(text: &str) -> Parsed<TunnelForward> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (proto_text, port_text, address, to_port) = match words.as_slice() {
        [proto, port, address] => (proto, port, address, port),
        [proto, port, address, to_port] => (proto, port, address, to_port),
        _ => return Err("is not of the form 'tcp|udp PORT ADDRESS [PORT]'".to_owned()),
    };
    Ok(TunnelForward {
        proto: proto(proto_text)?,
        port: port(port_text)?,
        to: SocketAddr::new(host(address, false)?, port(to_port)?),
    })
}

/// `PREFIX via GATEWAY`
pub(super) fn lan_route(text: &str) -> Parsed<(IpNet, IpAddr)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [prefix, "via", gateway] = words.as_slice() else {
        return Err("is not of the form 'PREFIX via GATEWAY'".to_owned());
    };
    let (prefix, gateway) = (unicast_prefix(prefix)?, host(gateway, false)?);
    if prefix.addr().is_ipv4() != gateway.is_ipv4() {
        return Err("mixes IPv4 and IPv6".to_owned());
    }
    Ok((prefix, gateway))
}

/// `255.255.255.0` or `24` -> 24
pub(super) fn netmask(text: &str) -> Option<u8> {
    if let Ok(length) = text.parse::<u8>() {
        return (length <= 32).then_some(length);
    }
    let mask: Ipv4Addr = text.parse().ok()?;
    Ipv4Net::with_netmask(Ipv4Addr::UNSPECIFIED, mask).ok().map(|net| net.prefix_len())
}

pub(super) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn cut(text: &str) -> String {
    super::problem::shown("", text.as_bytes())
}
