//! A wait for which the processor wakes up once. tokio's wheel of timers wakes it at each of its
//! levels, three times for a wait of seconds, which a router with nothing to do feels.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's (timerfd_create(2)); where it gives none, tokio's.
pub struct Alarm(Option<AsyncFd<OwnedFd>>);

impl Alarm {
    /// Within a runtime.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the call takes no pointer; its result is checked and owned.
        let timer = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
        };
        // SAFETY: the descriptor stays the same as long as the value lives.
        let register = |timer| unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }.ok();
        Self(timer.and_then(register))
    }

    /// Dropped half-way, it is as if nobody had waited. Takes the place of another wait.
    pub async fn after(&mut self, wait: Duration) {
        let Some(timer) = self.0.as_ref().filter(|timer| set(timer.get_ref(), wait).is_ok()) else {
            return tokio::time::sleep(wait).await;
        };
        // Setting it took away that a former one has rung, but not what was heard of that: what is
        // read counts.
        while let Ok(mut ready) = timer.readable().await {
            let rung = has_rung(timer.get_ref());
            ready.clear_ready();
            if rung {
                return;
            }
        }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

fn set(timer: &OwnedFd, wait: Duration) -> io::Result<()> {
    // Nothing at all would stop it.
    let wait = wait.max(Duration::from_nanos(1));
    // SAFETY: all zero is a valid itimerspec, which outlives the call.
    let result = unsafe {
        let mut value: libc::itimerspec = std::mem::zeroed();
        value.it_value.tv_sec = wait.as_secs().try_into().unwrap_or(i32::MAX.into());
        value.it_value.tv_nsec = wait.subsec_nanos() as libc::c_long;
        libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const value, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn has_rung(timer: &OwnedFd) -> bool {
    let mut count = 0u64;
    // SAFETY: eight bytes that outlive the call.
    unsafe { libc::read(timer.as_raw_fd(), (&raw mut count).cast(), size_of_val(&count)) == 8 }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn run(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    }

    #[test]
    fn rings_once_and_not_before_its_time() {
        run(async {
            let mut alarm = Alarm::new();
            assert!(alarm.0.is_some(), "the kernel has timers");
            for wait in [50, 0, 20] {
                let (wait, start) = (Duration::from_millis(wait), Instant::now());
                alarm.after(wait).await;
                assert!(start.elapsed() >= wait);
            }
        });
    }

    #[test]
    fn one_that_rang_unheard_does_not_end_the_next() {
        run(async {
            let mut alarm = Alarm::new();
            tokio::select! {
                biased;
                () = alarm.after(Duration::from_millis(5)) => panic!("rang at once"),
                () = std::future::ready(()) => {}
            }
            std::thread::sleep(Duration::from_millis(20));
            tokio::task::yield_now().await;
            let start = Instant::now();
            alarm.after(Duration::from_millis(60)).await;
            assert!(start.elapsed() >= Duration::from_millis(60));
        });
    }

    #[test]
    fn without_a_timer_of_the_kernel_it_waits_all_the_same() {
        run(async {
            let start = Instant::now();
            Alarm(None).after(Duration::from_millis(20)).await;
            assert!(start.elapsed() >= Duration::from_millis(20));
        });
    }
}
