//! Tells when devices, addresses, routes, rules or kernel settings changed; hardly what: whoever hears it looks anew.

use std::io;
use std::task::{Context, Poll};

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use super::netlink::is_own;
use super::settings_watch::SettingsWatch;
use super::{Error, Part, TABLE_LAN, TABLE_TUNNEL, sysctl};
use crate::netlink::attribute::{attributes, ne32};

/// RTMGRP_* of linux/rtnetlink.h. Rules of IPv6 have no such bit and are joined by number.
const GROUPS: u32 = (libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV4_RULE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE) as u32;
/// `RTNLGRP_IPV6_RULE` of linux/rtnetlink.h.
const GROUP_IPV6_RULE: u32 = 19;
/// `RTNLGRP_IPV4_NETCONF` of linux/rtnetlink.h: somebody wrote `rp_filter` (`sysctl`).
const GROUP_IPV4_NETCONF: u32 = 24;
/// Bytes of one event that are looked at; the rest of a longer one is thrown away unread.
const EVENT: usize = 4096;
/// `RTA_TABLE` of linux/rtnetlink.h, and bytes before the attributes: `struct nlmsghdr`, `struct rtmsg`.
const RTA_TABLE: u16 = 15;
const ROUTE_HEADERS: usize = 16 + 12;

/// The stream of changes. Starts with what changes after [`watch`] returned.
pub struct Changes {
    socket: TokioSocket,
    settings: Option<SettingsWatch>,
}

/// What some changes were about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Burst {
    /// Any ip rule.
    pub rules: bool,
    /// Routes of the barrier's own tables.
    pub routes: bool,
    /// Kernel settings.
    pub settings: bool,
    /// Devices or addresses.
    pub devices: bool,
    /// The netlink port of who changed a rule or one of those routes: for most programs their
    /// process's number (netlink_autobind in net/netlink/af_netlink.c). 0: not known.
    pub port: u32,
}

impl Burst {
    /// Whether the barrier itself may have a hole.
    #[must_use]
    pub fn barrier(self) -> bool {
        self.rules || self.routes || self.settings
    }

    /// Whether what was found amiss of `part` was somebody's doing: routes and settings also come
    /// and go with their devices, and the rule for the LAN's routes in `main` with these.
    #[must_use]
    pub fn explains(self, part: Part) -> bool {
        match part {
            Part::Rule => self.rules,
            Part::Route => self.routes && !self.devices,
            Part::Setting => self.settings && !self.devices,
        }
    }

    pub fn add(&mut self, other: Self) {
        self.rules |= other.rules;
        self.routes |= other.routes;
        self.settings |= other.settings;
        self.devices |= other.devices;
        if self.port == 0 {
            self.port = other.port;
        }
    }

    /// Of an event as the kernel sent it. None: rules and routes that vpnd changed itself.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut burst = Self::default();
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        match half(4).unwrap_or(0) {
            libc::RTM_NEWRULE | libc::RTM_DELRULE => burst.rules = true,
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                burst.routes = [TABLE_LAN, TABLE_TUNNEL].contains(&table_of(bytes).unwrap_or(0));
            }
            libc::RTM_NEWNETCONF | DELNETCONF => burst.settings = true,
            _ => burst.devices = true,
        }
        if burst.rules || burst.routes {
            burst.port = word(12).unwrap_or(0);
        }
        Some(burst).filter(|burst| !is_own(burst.port))
    }
}

/// `RTM_DELNETCONF` of linux/rtnetlink.h, which libc has not for every C library.
const DELNETCONF: u16 = 81;

fn table_of(bytes: &[u8]) -> Option<u32> {
    attributes(bytes.get(ROUTE_HEADERS..)?)
        .find(|(kind, _)| *kind == RTA_TABLE)
        .and_then(|(_, table)| ne32(table))
}

/// Must be called inside a tokio runtime.
///
/// # Errors
/// [`Error::Open`] when the process may not have such a socket.
pub fn watch() -> Result<Changes, Error> {
    let open = || {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        socket.socket_mut().add_membership(GROUP_IPV6_RULE)?;
        socket.socket_mut().add_membership(GROUP_IPV4_NETCONF)?;
        Ok(socket)
    };
    let socket = open().map_err(|source| Error::Open { what: "changes of devices and routes", source })?;
    let settings = SettingsWatch::new(sysctl::unheard());
    if let Err(error) = &settings {
        eprintln!("vpnd: writes to kernel settings are not heard of (inotify: {error})");
    }
    Ok(Changes { socket, settings: settings.ok() })
}

impl Changes {
    /// Returns when there was at least one change since the last call; however many came at once
    /// count as one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Watch`] when the socket is broken; the caller opens a new one and looks anew.
    pub async fn next(&mut self) -> Result<Burst, Error> {
        std::future::poll_fn(|context| self.drain(context)).await.map_err(Error::Watch)
    }

    /// False: nobody tells when one of `sysctl`'s settings is written that netlink is silent about.
    #[must_use]
    pub fn hears_settings(&self) -> bool {
        self.settings.is_some()
    }

    /// Reads all that is queued; pending when nothing was.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Burst>> {
        let mut all = None::<Burst>;
        let mut note = |burst| all.get_or_insert_default().add(burst);
        if let Some(settings) = &self.settings {
            match settings.poll(context) {
                Poll::Ready(Ok(())) => note(Burst { settings: true, ..Burst::default() }),
                Poll::Ready(Err(_)) => self.settings = None,
                Poll::Pending => {}
            }
        }
        loop {
            let mut buffer = Vec::with_capacity(EVENT);
            match self.socket.poll_recv(context, &mut buffer) {
                Poll::Ready(Ok(())) => Burst::read(&buffer).into_iter().for_each(&mut note),
                // The queue overflowed: events were lost, which may be any change.
                Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    note(Burst { rules: true, routes: true, settings: true, devices: true, port: 0 });
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return all.map_or(Poll::Pending, |all| Poll::Ready(Ok(all))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_of_a_route_loop_or_panic() {
        let mut bytes = vec![0; ROUTE_HEADERS];
        bytes[4..6].copy_from_slice(&libc::RTM_DELROUTE.to_ne_bytes());
        bytes.extend([8_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
        bytes.extend([9; 4]);
        bytes.extend([8_u16.to_ne_bytes(), RTA_TABLE.to_ne_bytes()].concat());
        bytes.extend(TABLE_TUNNEL.to_ne_bytes());
        for length in 0..=bytes.len() {
            let routes = Burst::read(&bytes[..length]).unwrap().routes;
            assert_eq!(routes, length == bytes.len(), "{length}");
        }
    }

    #[test]
    fn what_comes_with_a_device_is_nobodys_doing() {
        let mut burst = Burst { routes: true, settings: true, ..Burst::default() };
        assert!(burst.explains(Part::Route) && burst.explains(Part::Setting) && !burst.explains(Part::Rule));
        burst.add(Burst { devices: true, rules: true, ..Burst::default() });
        assert!(!burst.explains(Part::Route) && !burst.explains(Part::Setting) && burst.explains(Part::Rule));
    }
}
