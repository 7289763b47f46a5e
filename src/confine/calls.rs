//! Which system calls are left.
//!
//! A list of what is allowed, since a list of what is forbidden forgets what the next kernel brings. What is on no list
//! answers ENOSYS, as if the kernel did not know it: libraries have a way around that (glibc makes threads by `clone` where
//! `clone3` is unknown, and only `clone` can be looked into), and have none around a call that exists and refuses. What
//! somebody might look for in a log (sockets, other programs, other processes) answers EPERM by a second filter. Nothing
//! kills: a call that we forgot is an error with a message, not a program that is gone.

use super::Live;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;

/// Reading and writing what is open, opening what Landlock lets, memory, threads, time, and what one may know of oneself.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // what is open
    libc::SYS_read, libc::SYS_readv, libc::SYS_pread64, libc::SYS_preadv, libc::SYS_preadv2, libc::SYS_lseek,
    libc::SYS_pwrite64, libc::SYS_pwritev, libc::SYS_pwritev2,
    libc::SYS_copy_file_range, libc::SYS_sendfile, libc::SYS_splice, libc::SYS_fadvise64, libc::SYS_readahead,
    libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_flock,
    libc::SYS_close, libc::SYS_close_range, libc::SYS_pipe2, libc::SYS_ppoll, libc::SYS_pselect6,
    // files by name: Landlock decides
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_readlinkat,
    libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2,
    libc::SYS_umask,
    // memory
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_mincore, libc::SYS_msync,
    // threads
    libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq,
    libc::SYS_set_tid_address, libc::SYS_membarrier, libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_getcpu,
    libc::SYS_exit, libc::SYS_exit_group,
    // signals to oneself
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait, libc::SYS_sigaltstack, libc::SYS_restart_syscall,
    // time, chance, oneself
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep, libc::SYS_gettimeofday,
    libc::SYS_getrandom, libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid,
    libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getrusage, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_capget,
];

/// Those that only this machine's older interface has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[i64] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_mkdir, libc::SYS_rmdir,
    libc::SYS_unlink, libc::SYS_rename, libc::SYS_poll, libc::SYS_select, libc::SYS_pipe, libc::SYS_time,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

/// What a program that watches interfaces does beside that: an asynchronous runtime, connections that others began.
#[rustfmt::skip]
const ALLOWED_LIVE: &[i64] = &[
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2,
    libc::SYS_timerfd_create, libc::SYS_timerfd_settime, libc::SYS_accept4, libc::SYS_accept, libc::SYS_shutdown,
    libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_getsockopt, libc::SYS_setsockopt,
    libc::SYS_getsockname, libc::SYS_getpeername,
];
#[cfg(target_arch = "x86_64")]
const ALLOWED_LIVE_HERE: &[i64] = &[libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_LIVE_HERE: &[i64] = &[];

/// What is refused in so many words; all others answer as if there were no such call.
#[rustfmt::skip]
const REFUSED: &[i64] = &[
    libc::SYS_connect, libc::SYS_listen, libc::SYS_sendmsg, libc::SYS_sendmmsg,
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev,
    libc::SYS_kill, libc::SYS_tkill, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_unshare, libc::SYS_setns,
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_chroot, libc::SYS_pivot_root, libc::SYS_bpf, libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup, libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_userfaultfd, libc::SYS_init_module,
    libc::SYS_finit_module, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_truncate,
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_capset,
];
/// Refused by the second filter though the first allows it: no more filters.
const LAST: &[i64] = &[libc::SYS_seccomp];
/// Refused in so many words where nothing is live; else allowed, or under conditions.
const REFUSED_UNLESS_LIVE: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_socketpair,
    libc::SYS_setsockopt,
];
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] =
    &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// What may be asked of what is open by `ioctl`: nothing that types into a terminal (TIOCSTI), nothing of interfaces.
const IOCTLS: &[u64] = &[TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX];
// ioctl_tty(2), ioctl(2); the same numbers on the machines below.
const TCGETS: u64 = 0x5401;
const TIOCGWINSZ: u64 = 0x5413;
const FIONREAD: u64 = 0x541b;
const FIONBIO: u64 = 0x5421;
const FIONCLEX: u64 = 0x5450;
const FIOCLEX: u64 = 0x5451;

/// What libpcap asks of a device that it opens (netdevice(7)): flags, address, MTU, number, offloads. Nothing is set.
const IOCTLS_OF_OPENING: &[u64] = &[0x8910, 0x8912, 0x8913, 0x8921, 0x8927, 0x8933, 0x8946];

/// The filters, in the order in which they are to be installed. Of two that refuse, the answer is the later one's.
///
/// # Errors
/// No filter for this kind of machine, or none that could be made.
pub(super) fn filters(live: Option<&Live>) -> Result<[BpfProgram; 2], String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let machine: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|_| format!("no filter is known for {}", std::env::consts::ARCH))?;
    let made = |rules, otherwise, then| -> Result<BpfProgram, String> {
        let filter = SeccompFilter::new(rules, otherwise, then, machine).map_err(|error| told(&error))?;
        filter.try_into().map_err(|error: seccompiler::BackendError| told(&error))
    };
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let allowed = allowed(live).map_err(|error| told(&error))?;
    let refused = REFUSED.iter().chain(REFUSED_HERE).chain(REFUSED_UNLESS_LIVE);
    let refused = refused.filter(|call| !allowed.contains_key(call)).chain(LAST);
    let refused = refused.map(|&call| (call, Vec::new())).collect();
    Ok([
        made(allowed, errno(libc::ENOSYS), SeccompAction::Allow)?,
        made(refused, SeccompAction::Allow, errno(libc::EPERM))?,
    ])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn allowed(live: Option<&Live>) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = ALLOWED.iter().chain(ALLOWED_HERE).map(|&call| (call, Vec::new())).collect();
    if live.is_some() {
        rules.extend(ALLOWED_LIVE.iter().chain(ALLOWED_LIVE_HERE).map(|&call| (call, Vec::new())));
    }
    let long = |argument, op, value| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, op, value);
    let short = |argument, op, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value);
    let any_of = |argument, values: &[u64]| {
        values
            .iter()
            .map(|&value| SeccompRule::new(vec![short(argument, SeccompCmpOp::Eq, value)?]))
            .collect::<Result<Vec<_>, _>>()
    };
    let number = |value: i32| u64::from(value.unsigned_abs());

    // No memory is ever code: nothing here loads libraries or compiles.
    let code = number(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let data = short(2, SeccompCmpOp::MaskedEq(code), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![data])?]);
    }
    // A thread, no process. (`clone3` hides its flags in memory, so it is on no list.)
    let thread = number(libc::CLONE_THREAD);
    rules.insert(
        libc::SYS_clone,
        vec![SeccompRule::new(vec![long(0, SeccompCmpOp::MaskedEq(thread), thread)?])?],
    );
    // The name of a thread; and what installing the second filter takes, which then refuses a third.
    rules.insert(libc::SYS_prctl, any_of(0, &[libc::PR_SET_NAME, libc::PR_SET_NO_NEW_PRIVS].map(number))?);
    rules.insert(libc::SYS_seccomp, Vec::new());
    // Limits are asked for, not set.
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![long(2, SeccompCmpOp::Eq, 0)?])?]);
    // Signals to oneself: how `abort` and a second Ctrl-C end the program.
    rules.insert(libc::SYS_tgkill, any_of(0, &[u64::from(std::process::id())])?);
    let reopen = live.is_some_and(|live| live.reopen);
    let ioctls = [IOCTLS, if reopen { IOCTLS_OF_OPENING } else { &[] }].concat();
    rules.insert(libc::SYS_ioctl, any_of(1, &ioctls)?);

    // Packet sockets are read. Writing to one would be sending, and a duplicate of one would have another number.
    let packet_sockets = live.map(|live| &live.packet_sockets[..]).unwrap_or_default();
    let not_packet = || {
        let each = packet_sockets.iter().map(|&fd| short(0, SeccompCmpOp::Ne, number(fd)));
        each.collect::<Result<Vec<_>, _>>()
    };
    let unless_packet = |more: Vec<SeccompCondition>| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let conditions: Vec<_> = not_packet()?.into_iter().chain(more).collect();
        // No condition at all is written as no rule.
        if conditions.is_empty() { Ok(Vec::new()) } else { Ok(vec![SeccompRule::new(conditions)?]) }
    };
    for call in [libc::SYS_write, libc::SYS_writev, libc::SYS_dup] {
        rules.insert(call, unless_packet(Vec::new())?);
    }
    // The socket of syslog may be connected, and no other may take its number.
    let syslog = live.and_then(|live| live.syslog).map(number);
    let unless_syslog = |argument| -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
        syslog.map(|fd| short(argument, SeccompCmpOp::Ne, fd)).into_iter().collect()
    };
    rules.insert(libc::SYS_dup3, unless_packet(unless_syslog(1)?)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_dup2, unless_packet(unless_syslog(1)?)?);
    if let Some(fd) = syslog {
        rules.insert(libc::SYS_connect, any_of(0, &[fd])?);
        rules.insert(libc::SYS_close, vec![SeccompRule::new(unless_syslog(0)?)?]);
        rules.remove(&libc::SYS_close_range);
    }
    // Positioned writing to a socket fails in the kernel (it cannot seek), but need not be tried.
    for call in [libc::SYS_pwrite64, libc::SYS_pwritev, libc::SYS_pwritev2] {
        rules.insert(call, unless_packet(Vec::new())?);
    }
    // From one open file into another: here the second and the third argument count.
    if live.is_some() {
        for call in [libc::SYS_sendfile, libc::SYS_splice] {
            rules.remove(&call);
        }
    }
    let flags = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL].map(number);
    let mut fcntl = any_of(1, &flags)?;
    let more = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_OFD_SETLK, libc::F_SETLK, libc::F_GETLK];
    for command in more.map(number) {
        fcntl.extend(unless_packet(vec![short(1, SeccompCmpOp::Eq, command)?])?);
    }
    rules.insert(libc::SYS_fcntl, fcntl);
    if live.is_some() {
        // To whom it is connected, no other.
        rules.insert(libc::SYS_sendto, unless_packet(vec![long(4, SeccompCmpOp::Eq, 0)?])?);
        rules.insert(libc::SYS_socketpair, any_of(0, &[number(libc::AF_UNIX)])?);
        // An interface that came back: the socket is bound to it anew.
        if reopen {
            // Of the Internet: what libpcap asks of a device by; it cannot connect, listen or name whom to send to.
            let families = [libc::AF_PACKET, libc::AF_INET, libc::AF_UNIX].map(number);
            rules.insert(libc::SYS_socket, any_of(0, &families)?);
            rules.insert(libc::SYS_bind, Vec::new());
        } else if !packet_sockets.is_empty() {
            let sockets: Vec<u64> = packet_sockets.iter().map(|&fd| number(fd)).collect();
            rules.insert(libc::SYS_bind, any_of(0, &sockets)?);
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(reopen: bool) -> Live {
        Live { packet_sockets: vec![5, 7], reopen, syslog: None }
    }

    #[test]
    fn nothing_is_connected_but_the_socket_of_a_syslog() {
        assert!(!allowed(None).unwrap().contains_key(&libc::SYS_connect));
        for reopen in [false, true] {
            assert!(!allowed(Some(&live(reopen))).unwrap().contains_key(&libc::SYS_connect));
            let with_syslog = Live { syslog: Some(9), ..live(reopen) };
            let rules = allowed(Some(&with_syslog)).unwrap();
            assert_eq!(rules[&libc::SYS_connect].len(), 1);
            assert!(!rules[&libc::SYS_close].is_empty() && !rules.contains_key(&libc::SYS_close_range));
            filters(Some(&with_syslog)).unwrap();
        }
    }

    #[test]
    fn what_nobody_needs_is_allowed_to_nobody() {
        for live in [None, Some(&live(false)), Some(&live(true))] {
            let allowed = allowed(live).unwrap();
            for call in REFUSED.iter().chain(REFUSED_HERE) {
                assert!(!allowed.contains_key(call), "system call {call}, live: {}", live.is_some());
            }
            filters(live).unwrap();
        }
    }

    #[test]
    fn no_audit_of_captures_has_anything_of_the_network() {
        let offline = allowed(None).unwrap();
        for call in ALLOWED_LIVE.iter().chain(REFUSED_UNLESS_LIVE) {
            assert!(!offline.contains_key(call), "system call {call}");
        }
    }

    #[test]
    fn sockets_are_made_only_where_devices_are_opened_again() {
        assert!(!allowed(Some(&live(false))).unwrap().contains_key(&libc::SYS_socket));
        assert!(allowed(Some(&live(true))).unwrap().contains_key(&libc::SYS_socket));
    }
}
