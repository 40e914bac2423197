//! Who is at the other end of a unix socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The process that called listen() (seen from the client) or connect() (from the server), as
/// SO_PEERCRED recorded it (unix(7)). The process may be gone by now.
///
/// # Errors
/// getsockopt's own.
pub fn peer_pid(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of a live ucred, which getsockopt fills in.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(found.pid) } else { Err(io::Error::last_os_error()) }
}

/// Root, or whoever the daemon itself runs as. The socket's mode says the same; this holds also
/// while somebody has changed the mode.
#[must_use]
pub fn trusted(uid: u32) -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    uid == 0 || uid == unsafe { libc::geteuid() }
}
