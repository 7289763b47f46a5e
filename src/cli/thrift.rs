//! How a live run has the system's allocator keep less of what was given back.
//!
//! glibc takes what is freed for a hint of what will be asked for: once a buffer of megabytes was freed, others like it come from
//! its arenas, of which it makes eight a processor, and a hole in an arena stays with the process. For a program that ends soon
//! that is right. A live run, whose windows and segments are made by one thread and freed by another for days, came to take twice
//! as much as it used (benches/README.md). The allocator reads what it is told when a program begins, so a live run begins anew.

use std::ffi::OsString;

/// What glibc is told, unless somebody told it already: buffers from 128 KiB on come from the system and go back to it at once,
/// however many were freed before; and all threads share two arenas.
const TOLD: [(&str, &str); 2] = [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_ARENA_MAX", "2")];

/// Says that it is told: where the system forgets it on the way (for a file with capabilities) it is not tried again.
const BEGUN_ANEW: &str = "PORTPROOF_BEGUN_ANEW";

/// Begins the program anew with the same arguments, the same files and as the same process. Comes back where that is done
/// already, or cannot be done: then it takes more memory, and that is all.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn begin_anew(arguments: &[OsString]) {
    use std::env;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    if env::var_os(BEGUN_ANEW).is_some() {
        return;
    }
    let (Ok(program), Some((name, rest))) = (env::current_exe(), arguments.split_first()) else { return };
    let told = TOLD.into_iter().filter(|(name, _)| env::var_os(name).is_none());
    // It answers only if it failed.
    let _ = Command::new(program).arg0(name).args(rest).envs(told).env(BEGUN_ANEW, "1").exec();
}

/// Other allocators give back by themselves what is freed.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn begin_anew(_: &[OsString]) {}
