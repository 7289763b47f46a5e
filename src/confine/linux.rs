//! How it is done on Linux: capabilities(7), no_new_privs, landlock(7), seccomp(2).

use super::status::Told;
use super::{Level, Needs, State, User, calls};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::{Access as Allowed, AtFlags, CWD, accessat};
use rustix::process::{Gid, Uid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use std::fs;
use std::path::{Path, PathBuf};

/// What the standard library, the allocator and thread pools read of the system, and where libpcap finds the names of ports
/// and protocols in a filter: no file of anybody's, and nothing secret.
const ALWAYS_READ: &[&str] = &[
    "/proc/self",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/services",
    "/usr/share/zoneinfo",
    "/dev/null",
    "/dev/urandom",
];

/// Where libpcap reads what a device lost; the links of the former lead into the latter.
const LIVE_READ: &[&str] = &["/sys/class/net", "/sys/devices"];

/// The newest rights that rules are written for. Older kernels know fewer; what they miss beneath version 6 (truncation,
/// sockets, `ioctl` on devices, signals) the filter of system calls denies by itself.
const NEWEST: ABI = ABI::V6;

pub(super) fn confine(needs: &Needs) -> State {
    let mut missing = Vec::new();
    let before = Told::of_this_process();
    if before.threads > 1 {
        missing.push(format!("{} other threads run already, which stay as they are", before.threads - 1));
    }
    // Paths are opened while everything may still be opened.
    let rules = ruleset(needs);
    if let Some(user) = &needs.user
        && let Err(why) = become_user(user, needs.live.as_ref().is_some_and(|live| live.reopen))
    {
        missing.push(format!("the user is not changed to {}: {why}", user.name));
    }
    drop_capabilities(needs, &mut missing);
    if let Err(error) = thread::set_no_new_privs(true) {
        missing.push(format!("no_new_privs cannot be set: {error}"));
    }
    let landlock = match rules.and_then(restrict) {
        Ok(version) => Some(version),
        Err(why) => {
            missing.push(format!("files are not restricted: {why}"));
            None
        }
    };
    let filtered = calls::filters(needs.live.as_ref()).and_then(|filters| {
        filters
            .iter()
            .try_for_each(|filter| seccompiler::apply_filter(filter))
            .map_err(|error| error.to_string())
    });
    if let Err(why) = filtered {
        missing.push(format!("system calls are not filtered: {why}"));
    }
    read_back(needs, landlock, missing)
}

/// How it stands now, whatever was asked.
fn read_back(needs: &Needs, mut landlock: Option<i32>, mut missing: Vec<String>) -> State {
    let told = Told::of_this_process();
    let everything = needs
        .read
        .iter()
        .chain(&needs.list)
        .chain(&needs.own)
        .any(|path| fs::canonicalize(path).is_ok_and(|path| path == Path::new("/")));
    if landlock.is_some() && !everything && fs::File::open("/").is_ok() {
        landlock = None;
        missing.push("files are not restricted, though the system said that they are".to_owned());
    }
    if !told.no_new_privs && !missing.iter().any(|line| line.contains("no_new_privs")) {
        missing.push("no_new_privs is not set, or /proc is not there to say so".to_owned());
    }
    if !told.calls_filtered && !missing.iter().any(|line| line.contains("system calls")) {
        missing.push("system calls are not filtered, or /proc is not there to say so".to_owned());
    }
    if told.capabilities != 0 && !missing.iter().any(|line| line.contains("capabilit")) {
        missing.push("capabilities are left".to_owned());
    }
    if let Some(user) = &needs.user
        && told.uid.is_some_and(|uid| uid != user.uid)
        && !missing.iter().any(|line| line.contains("user"))
    {
        missing.push(format!("the user is not {}", user.name));
    }
    let nothing = !told.no_new_privs && !told.calls_filtered && landlock.is_none();
    let level = match (missing.is_empty(), nothing) {
        (true, _) => Level::Full,
        (false, true) => Level::None,
        (false, false) => Level::Partial,
    };
    State {
        level,
        missing,
        uid: told.uid,
        capabilities: told.capabilities,
        no_new_privs: told.no_new_privs,
        calls_filtered: told.calls_filtered,
        landlock,
    }
}

/// Becomes the user: first the groups, while that is still allowed. Capabilities go with it, unless some are to be kept:
/// then the permitted ones are left to be dropped later.
fn become_user(user: &User, keep: bool) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if rustix::process::getuid() == uid
        && rustix::process::geteuid() == uid
        && rustix::process::getegid() == gid
    {
        return Ok(());
    }
    // The bounding set can only be emptied by who still has capabilities.
    empty_bounding_set();
    thread::set_keep_capabilities(keep)?;
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)
}

/// What no program started later could get by files that carry capabilities. With no_new_privs none can anyway.
fn empty_bounding_set() {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if thread::capability_is_in_bounding_set(one).unwrap_or(false) {
            let _ = thread::remove_capability_from_bounding_set(one);
        }
    }
}

/// Drops all capabilities; but for the one without which root could not read (or write) what was asked for, since it belongs
/// to somebody else. Landlock keeps that one to what was asked for.
fn drop_capabilities(needs: &Needs, missing: &mut Vec<String>) {
    empty_bounding_set();
    let Ok(had) = thread::capabilities(None) else {
        missing.push("capabilities cannot be told".to_owned());
        return;
    };
    let none = CapabilitySet::empty();
    let mut kept = none;
    if had.effective.intersects(CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE) {
        let readable = |path: &Path| may(path, Allowed::READ_OK);
        let writable = |path: &Path| may(path, Allowed::WRITE_OK);
        let only_effective =
            |effective| CapabilitySets { effective, permitted: had.permitted, inheritable: none };
        let reads: Vec<&PathBuf> =
            needs.read.iter().chain(&needs.list).filter(|path| readable(path)).collect();
        let writes: Vec<&PathBuf> =
            needs.write.iter().chain(&needs.own).filter(|path| writable(path)).collect();
        if thread::set_capabilities(None, only_effective(none)).is_ok() {
            let not_ours = |path: &Path| format!("{} belongs to somebody else", path.display());
            if let Some(path) = reads.iter().find(|path| !readable(path)) {
                kept |= CapabilitySet::DAC_READ_SEARCH;
                missing.push(format!("the capability CAP_DAC_READ_SEARCH is kept, since {}", not_ours(path)));
            }
            if let Some(path) = writes.iter().find(|path| !writable(path)) {
                kept |= CapabilitySet::DAC_OVERRIDE;
                missing.push(format!("the capability CAP_DAC_OVERRIDE is kept, since {}", not_ours(path)));
            }
        }
    }
    if needs.live.as_ref().is_some_and(|live| live.reopen) {
        kept |= CapabilitySet::NET_RAW;
        missing.push(
            "the capability CAP_NET_RAW and making packet sockets are kept, to open devices again".to_owned(),
        );
    }
    kept &= had.permitted;
    let _ = thread::clear_ambient_capability_set();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
    if let Err(error) = thread::set_capabilities(None, sets) {
        missing.push(format!("capabilities cannot be dropped: {error}"));
    }
}

/// Whether the thread, with what it may now, could open this.
fn may(path: &Path, how: Allowed) -> bool {
    accessat(CWD, path, how, AtFlags::EACCESS).is_ok()
}

fn ruleset(needs: &Needs) -> Result<RulesetCreated, String> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let own = read | write | AccessFs::MakeDir | AccessFs::RemoveDir;
    let told = |error: landlock::RulesetError| error.to_string();
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(told)?;
    let scratch = needs.scratch.iter().cloned();
    let around = needs.scratch.iter().filter_map(|path| path.parent()).map(Path::to_owned);
    let live: &[&str] = if needs.live.is_some() { LIVE_READ } else { &[] };
    let always = ALWAYS_READ.iter().chain(live).map(PathBuf::from);
    let wishes = (needs.read.iter().cloned().chain(always).map(|path| (path, read)))
        .chain(needs.list.iter().map(|path| (path.clone(), AccessFs::ReadDir.into())))
        .chain(needs.write.iter().map(|path| (path.clone(), write)))
        .chain(needs.own.iter().cloned().chain(scratch).map(|path| (path, own)))
        .chain(around.map(|path| (path, AccessFs::RemoveDir.into())));
    for (path, access) in wishes {
        ruleset = allow(ruleset, &path, access)?;
    }
    Ok(ruleset)
}

/// Lets it do this beneath a path (or with a file). What cannot be opened now will tell why when it is to be read; what has
/// no place in a file system, a pipe at /dev/fd/63, is not restricted to begin with.
fn allow(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, String> {
    let Ok(handle) = PathFd::new(path) else { return Ok(ruleset) };
    let Ok(kind) = fs::metadata(path) else { return Ok(ruleset) };
    let access = if kind.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    if access.is_empty() || nowhere(path) {
        return Ok(ruleset);
    }
    ruleset
        .add_rule(PathBeneath::new(handle, access))
        .map_err(|error| format!("{} cannot be allowed: {error}", path.display()))
}

/// Whether what this leads to is a pipe or a socket without a name.
fn nowhere(path: &Path) -> bool {
    // The link at /proc/self/fd/N reads `pipe:[1234]`.
    let mut path = path.to_owned();
    for _ in 0..8 {
        let Ok(target) = fs::read_link(&path) else { return false };
        if target.to_string_lossy().contains(":[") {
            return true;
        }
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    false
}

/// The version of the interface that now restricts this thread.
fn restrict(ruleset: RulesetCreated) -> Result<i32, String> {
    let status = ruleset.restrict_self().map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented) => {
            Err("this kernel was built without Landlock, or is older than 5.13".to_owned())
        }
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("Landlock is not among the security modules that this kernel was started with (lsm=)"
                .to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("Landlock enforced nothing".to_owned()),
        (_, LandlockStatus::Available { effective_abi, kernel_abi, .. }) => {
            Ok(kernel_abi.unwrap_or(effective_abi as i32))
        }
        (_, _) => Ok(1),
    }
}
