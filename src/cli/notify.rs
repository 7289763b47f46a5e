//! The service manager that may have started the program (sd_notify(3)). Its socket is open from the beginning: a confined
//! program makes none.

use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whoever started the program, if it wants to be told how that goes.
pub(super) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// How long it waits for a sign of life.
    pub(super) patience: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn of_environment() -> ServiceManager {
        ServiceManager { socket: socket(), patience: patience() }
    }

    /// Tells it something, a line for each.
    pub(super) fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // One that does not listen any more needs not know.
            let _ = socket.send(state.as_bytes());
        }
    }
}

fn socket() -> Option<UnixDatagram> {
    let name = env::var_os("NOTIFY_SOCKET")?;
    let socket = UnixDatagram::unbound().ok()?;
    match name.as_bytes() {
        // In the name space of its own that Linux has for such sockets.
        [b'@', rest @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(rest).ok()?),
        _ => socket.connect(&name),
    }
    .ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

fn patience() -> Option<Duration> {
    let own = std::process::id().to_string();
    if env::var("WATCHDOG_PID").is_ok_and(|process| process != own) {
        return None;
    }
    env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)
}
