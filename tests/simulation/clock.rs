//! Simulated time, for everything that a thread does: the monotonic clock moves only when the thread
//! would wait, and then at once to where it would wake; the wall clock follows it and may jump.
//!
//! The C library's `clock_gettime`, `epoll_wait` and `getrandom` are replaced for this whole program.
//! On a thread that has called [`begin`] they answer from the simulation, on all others they ask the
//! kernel as before. So the program under test needs no seam for time: tokio's timers, `Instant`,
//! `Timestamp::now` and the order of a `HashMap` all follow the seed.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_uint, c_void};
use std::time::Duration;

#[derive(Clone, Copy)]
struct Time {
    /// Nanoseconds on the monotonic clock.
    monotonic: u64,
    /// What the wall clock is ahead of it.
    ahead: i64,
    /// For `getrandom`.
    entropy: u64,
}

/// Where the monotonic clock begins: far enough from 0 for whoever subtracts.
const BEGINNING: u64 = 1_000_000 * SECOND;
/// 2026-11-18T12:00:00Z, a Wednesday.
const WALL: i64 = 1_795_003_200 * SECOND as i64;
const SECOND: u64 = 1_000_000_000;

thread_local! {
    static TIME: Cell<Option<Time>> = const { Cell::new(None) };
}

/// From now on this thread lives in simulated time, until it ends.
pub fn begin(entropy: u64) {
    TIME.set(Some(Time { monotonic: BEGINNING, ahead: WALL - BEGINNING as i64, entropy }));
}

/// How long the simulation has been going on.
pub fn elapsed() -> Duration {
    TIME.get().map_or(Duration::ZERO, |time| Duration::from_nanos(time.monotonic - BEGINNING))
}

/// Moves the wall clock, as somebody who sets it does.
pub fn jump(seconds: i64) {
    update(|time| time.ahead += seconds * SECOND as i64);
}

fn update(change: impl FnOnce(&mut Time)) {
    TIME.set(TIME.get().map(|mut time| {
        change(&mut time);
        time
    }));
}

fn simulated() -> Option<Time> {
    TIME.try_with(Cell::get).ok().flatten()
}

#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub const CLOCK_GETTIME: i64 = 228;
    pub const EPOLL_PWAIT: i64 = 281;
    pub const GETRANDOM: i64 = 318;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const CLOCK_GETTIME: i64 = 113;
    pub const EPOLL_PWAIT: i64 = 22;
    pub const GETRANDOM: i64 = 278;
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

const REALTIME: c_int = 0;
const MONOTONIC: c_int = 1;
const REALTIME_COARSE: c_int = 5;
const MONOTONIC_COARSE: c_int = 6;
const BOOTTIME: c_int = 7;

/// As clock_gettime(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, answer: *mut Timespec) -> c_int {
    let told = simulated().and_then(|time| match clock {
        REALTIME | REALTIME_COARSE => Some(time.monotonic.saturating_add_signed(time.ahead)),
        MONOTONIC | MONOTONIC_COARSE | BOOTTIME => Some(time.monotonic),
        _ => None,
    });
    match told {
        // SAFETY: the caller gives a place to write the answer to, as the kernel asks of it too.
        Some(told) => unsafe {
            let nanoseconds = (told % SECOND) as c_long;
            answer.write(Timespec { seconds: (told / SECOND) as i64, nanoseconds });
            0
        },
        // SAFETY: what the caller asked, handed on.
        None => unsafe { syscall(number::CLOCK_GETTIME, clock, answer) as c_int },
    }
}

/// As epoll_wait(2). Where nothing has happened, simulated time passes instead of real time.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(epoll: c_int, events: *mut c_void, most: c_int, timeout: c_int) -> c_int {
    let simulated = simulated().is_some() && timeout >= 0;
    let patience = if simulated { 0 } else { timeout };
    // SAFETY: what the caller asked, handed on, with another patience.
    let happened = unsafe {
        syscall(number::EPOLL_PWAIT, epoll, events, most, patience, std::ptr::null::<c_void>(), 8usize)
    };
    if simulated && happened == 0 {
        update(|time| time.monotonic += timeout as u64 * (SECOND / 1000));
    }
    happened as c_int
}

/// As getrandom(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if simulated().is_none() {
        // SAFETY: what the caller asked, handed on.
        return unsafe { syscall(number::GETRANDOM, buffer, length, flags) as isize };
    }
    for place in 0..length {
        update(|time| time.entropy = crate::random::mix(time.entropy));
        let byte = simulated().map_or(0, |time| time.entropy as u8);
        // SAFETY: `place` lies within the buffer that the caller gives.
        unsafe { buffer.cast::<u8>().add(place).write(byte) };
    }
    length as isize
}
