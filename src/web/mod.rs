//! A live run in a browser, and as numbers for programs that watch programs. It listens, answers GET, and asks nobody.
//!
//! | path | what |
//! |---|---|
//! | `/` | the page: one file with everything in it |
//! | `/events` | server-sent events: the whole picture, then what changes of it |
//! | `/audit.json` | the picture in the shape of an audit, marked as provisional |
//! | `/metrics` | Prometheus text format 0.0.4 |
//! | `/healthz` | `ok` (200) or `degraded` (503), with the reasons |
//!
//! It runs on a thread of its own. A client holds of its memory what one event takes: events are made when the client has
//! taken the last one (`board`).

mod audit;
mod board;
mod guard;
mod health;
mod metrics;
mod page;
#[cfg(test)]
mod sample;
mod serve;

pub use guard::{Token, new_token};

pub use audit::unaudited;

use crate::audit::{PackUsed, SiteUsed};
use crate::pipeline::live::Picture;
use guard::Guard;
use serde::Serialize;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::sync::watch;

/// What the run is held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// The program's version.
    pub version: &'static str,
    /// The site.
    pub site: SiteUsed,
    /// The packs of rules.
    pub rules: Vec<PackUsed>,
}

impl Default for About {
    fn default() -> Self {
        let site = SiteUsed { name: String::new(), sha256: String::new() };
        About { version: env!("CARGO_PKG_VERSION"), site, rules: Vec::new() }
    }
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address cannot be listened at.
    #[error("--web {address}: cannot listen there: {error}{advice}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// Others could ask, and nothing would keep them out.
    #[error("--web {0}: other machines can reach this address, which takes a token")]
    NoToken(SocketAddr),
}

/// An address that is listened at, and nobody answers yet: whoever gives up privileges does it while this is at hand.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
}

impl Listening {
    /// Begins to listen. Where others than this machine can reach the address, only who has the token is answered.
    ///
    /// # Errors
    /// The address cannot be listened at, or a token is needed.
    pub fn bind(address: SocketAddr, token: Option<Token>) -> Result<Listening, WebError> {
        if !address.ip().is_loopback() && token.is_none() {
            return Err(WebError::NoToken(address));
        }
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, bound) =
            bound.map_err(|error| WebError::Bind { address, advice: advice(error.kind()), error })?;
        Ok(Listening { listener, address: bound, guard: Guard::new(bound, token) })
    }

    /// The address: with the port that the system chose, if it was to choose one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on, on a thread of its own.
    ///
    /// # Errors
    /// If there is no thread to be had, or it cannot wait for connections.
    pub fn start(self, pictures: watch::Receiver<Arc<Picture>>, about: About) -> io::Result<Serving> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let (about, abouts) = watch::channel(about);
        let (end, ending) = watch::channel(false);
        let thread = thread::Builder::new().name("web".to_owned()).spawn(move || {
            runtime.block_on(serve::serve(listener, self.guard, pictures, abouts, ending));
        })?;
        Ok(Serving { about, end, thread })
    }
}

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            ": something else listens there; name another port, or 0 for any that is free"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 take root or the capability CAP_NET_BIND_SERVICE; name a higher one"
        }
        io::ErrorKind::AddrNotAvailable => {
            ": this machine has no such address; name 127.0.0.1, or one that `portproof interfaces` lists"
        }
        _ => "",
    }
}

/// A page that is answered for.
#[derive(Debug)]
pub struct Serving {
    about: watch::Sender<About>,
    end: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// What the run is held against from now on.
    pub fn set_about(&self, about: About) {
        self.about.send_replace(about);
    }

    /// Ends, after those who follow have been told the last picture; who does not take it is not waited for.
    pub fn finish(self) {
        self.end.send_replace(true);
        // What a thread that failed had to tell, it told.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_a_silent_run_hears_that_it_is_there() {
        use std::io::{BufRead, BufReader, Write};
        let listening = Listening::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let address = listening.address();
        let (_silent, pictures) = tokio::sync::watch::channel(std::sync::Arc::default());
        let serving = listening.start(pictures, About::default()).unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map(|line| line.expect("it is not cut off"));
        let heard = lines.by_ref().filter(|line| line == ": still here").take(3).count();
        assert_eq!(heard, 3);
        drop(lines);
        serving.finish();
    }

    #[test]
    fn what_cannot_be_listened_at_is_told_with_what_to_do() {
        let taken = Listening::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let again = Listening::bind(taken.address(), None).unwrap_err().to_string();
        assert!(again.starts_with(&format!("--web {}: ", taken.address())), "{again}");
        assert!(again.contains("something else listens there"), "{again}");
        let nobodys = Listening::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        assert_ne!(nobodys.address().port(), 0);
        let token = Token::new(&new_token().unwrap()).unwrap();
        let error = Listening::bind("192.0.2.1:9099".parse().unwrap(), Some(token)).unwrap_err().to_string();
        assert!(error.contains("this machine has no such address"), "{error}");
        let error = Listening::bind("0.0.0.0:0".parse().unwrap(), None).unwrap_err();
        assert!(matches!(error, WebError::NoToken(_)), "{error}");
    }
}
