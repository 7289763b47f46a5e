//! Gives up what the program does not need, before it reads what strangers wrote.
//!
//! A capture is written by whoever sent the packets. Should a mistake in a reader of ours ever let them run code, that code
//! is to find nothing: no capability, no way to gain one, no file but those that the command line named, no socket, no other
//! program. [`confine`] does that to the calling thread and to all that it starts later, so it is called while there is no
//! other. What the system cannot do is no error but said: [`State`] is read back from the system, not from what was asked.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod linux;
mod status;
mod user;

pub use status::{Level, State};
pub use user::{User, UserError};

use std::path::PathBuf;

/// What the program must still be able to do. All else is denied, but for looking at itself, the processors, the memory
/// limits and the time zone.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Files to read, and directories beneath which all is read. What does not exist is no matter.
    pub read: Vec<PathBuf>,
    /// Directories to look into: which names stand there and beneath.
    pub list: Vec<PathBuf>,
    /// Directories in which (and beneath which) files are made, written, replaced and removed, never read; or files that are
    /// no regular ones (pipes, devices), which are written.
    pub write: Vec<PathBuf>,
    /// Directories in which everything is allowed: files and directories made, read, replaced, removed.
    pub own: Vec<PathBuf>,
    /// A directory as in `own`, which may also be removed itself.
    pub scratch: Option<PathBuf>,
    /// Whom to become. Needs root (or CAP_SETUID and CAP_SETGID); for everybody else it is nothing but a line in
    /// [`State::missing`].
    pub user: Option<User>,
    /// What watching interfaces takes beside that.
    pub live: Option<Live>,
}

/// What watching interfaces takes: handles that are open already when [`confine`] is called.
///
/// Allowed then, beside what an offline audit does: accepting connections on sockets that listen already, reading and
/// writing on those and on connected sockets (a datagram socket for syslog or `sd_notify` has to be connected before;
/// `sendto` may name no address; but see `syslog`), what an asynchronous runtime waits with (epoll, eventfd, pairs of Unix sockets), and of the
/// packet sockets reading, polling, their statistics and binding them anew. No socket can be made (but see `reopen`), and
/// nothing can be sent by a packet socket, nor can it be duplicated to get round that. What the system says of its network
/// devices (/sys/class/net, whose links lead into /sys/devices) stays readable: libpcap reads there what a device lost.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// File descriptors of open packet sockets (`AsRawFd` of libpcap's handles).
    pub packet_sockets: Vec<i32>,
    /// The datagram socket of a local syslog, which may be connected again: one that was restarted has another socket under
    /// the same name. That descriptor, and no other, may be connected, and it can be neither closed nor put in the place of
    /// another, so that it stays what it is: a Unix socket, which leads to nobody but this machine.
    pub syslog: Option<i32>,
    /// Whether devices that went away are opened anew by libpcap. That takes CAP_NET_RAW and making packet sockets, which are
    /// then kept, and [`State::missing`] says so. Binding an open socket anew takes neither.
    pub reopen: bool,
}

/// Confines the calling thread and all that it starts from now on. Never fails: what could not be done is in the state,
/// which is read back from the system.
#[cfg(target_os = "linux")]
pub fn confine(needs: &Needs) -> State {
    linux::confine(needs)
}

/// Confines the calling thread and all that it starts from now on: on this system it cannot.
#[cfg(not(target_os = "linux"))]
pub fn confine(_: &Needs) -> State {
    State::unconfined("this system is not Linux")
}
