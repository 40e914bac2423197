//! In the place of two functions of musl's that take much along for what little is asked of them here.
//!
//! Its `pthread_setname_np` prints a path with all of printf, floating-point numbers included (10 KB of a mips
//! program), and std links it whether a thread has a name or not. Its `qsort`, which sorts the addresses that
//! `getaddrinfo` found (at most 48: `MAXADDRS` in src/network/lookup.h), is another 8 KB in zig's libc.

use std::ffi::{c_char, c_int, c_void};

/// As pthread_setname_np(3), but for the calling thread alone, which is the only one that std names.
///
/// # Safety
/// `name` ends in a zero.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pthread_setname_np(thread: libc::pthread_t, name: *const c_char) -> c_int {
    // SAFETY: takes nothing.
    if thread != unsafe { libc::pthread_self() } {
        return libc::EINVAL;
    }
    // SAFETY: PR_SET_NAME reads up to 16 bytes, and no further than the zero (prctl(2)).
    match unsafe { libc::prctl(libc::PR_SET_NAME, name) } {
        0 => 0,
        _ => std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL),
    }
}

/// As qsort(3), by insertion.
///
/// # Safety
/// `base` is an array of `count` elements of `size` bytes, and `compare` may be called with any two of them.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn qsort(
    base: *mut c_void,
    count: usize,
    size: usize,
    compare: unsafe extern "C" fn(*const c_void, *const c_void) -> c_int,
) {
    for new in 1..count {
        for at in (1..=new).rev() {
            // SAFETY: 0 < at < count, so both are elements, and they do not overlap.
            unsafe {
                let (one, two) = (base.byte_add((at - 1) * size), base.byte_add(at * size));
                if compare(one, two) <= 0 {
                    break;
                }
                std::ptr::swap_nonoverlapping(one.cast::<u8>(), two.cast::<u8>(), size);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn by_key(one: *const c_void, two: *const c_void) -> c_int {
        // SAFETY: both are elements of an array of [u8; 3].
        let (one, two) = unsafe { (*one.cast::<[u8; 3]>(), *two.cast::<[u8; 3]>()) };
        one[0].cmp(&two[0]) as c_int
    }

    #[test]
    fn sorts_as_a_stable_sort_does() {
        for count in 0..48_u8 {
            let scattered = |at: u8| [at.wrapping_mul(197) % 7, at, count];
            let mut sorted: Vec<[u8; 3]> = (0..count).map(scattered).collect();
            let mut expected = sorted.clone();
            // SAFETY: what `by_key` takes.
            unsafe { qsort(sorted.as_mut_ptr().cast(), sorted.len(), 3, by_key) };
            expected.sort_by_key(|element| element[0]);
            assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn names_this_thread_and_no_other() {
        let name = c"vpnd-gate";
        // SAFETY: the name ends in a zero; another thread's number is only compared.
        let (own, other) = unsafe {
            (pthread_setname_np(libc::pthread_self(), name.as_ptr()), pthread_setname_np(0, name.as_ptr()))
        };
        assert_eq!((own, other), (0, libc::EINVAL));
        assert_eq!(std::fs::read_to_string("/proc/thread-self/comm").unwrap(), "vpnd-gate\n");
    }
}
