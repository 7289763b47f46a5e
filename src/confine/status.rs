//! How confined the program is, as the system says.

use serde::Serialize;
use std::fmt;

/// How much of the confinement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing of it.
    None,
    /// Some of it: [`State::missing`] says what does not.
    Partial,
    /// All of it.
    Full,
}

impl Level {
    /// `none`, `partial` or `full`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Partial => "partial",
            Level::Full => "full",
        }
    }
}

/// How confined the program is: read back from /proc/self/status, and tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// In one word.
    pub level: Level,
    /// What does not stand, and why; one sentence without a full stop each.
    pub missing: Vec<String>,
    /// Effective user.
    pub uid: Option<u32>,
    /// Effective and permitted capabilities together, a bit each (capabilities(7)).
    pub capabilities: u64,
    /// Whether no program that it could start would gain privileges.
    pub no_new_privs: bool,
    /// Whether system calls are filtered.
    pub calls_filtered: bool,
    /// The version of Landlock's interface that keeps it from files; nothing if nothing does.
    pub landlock: Option<i32>,
}

impl State {
    /// Not confined, for this reason; how the process stands is read from the system.
    pub fn unconfined(why: &str) -> Self {
        let told = Told::of_this_process();
        State {
            level: Level::None,
            missing: vec![why.to_owned()],
            uid: told.uid,
            capabilities: told.capabilities,
            no_new_privs: told.no_new_privs,
            calls_filtered: told.calls_filtered,
            landlock: None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sandbox: {}", self.level.as_str())?;
        if !self.missing.is_empty() {
            write!(f, ": {}", self.missing.join("; "))?;
        }
        let capabilities = match self.capabilities {
            0 => "none".to_owned(),
            some => format!("{some:#x}"),
        };
        let uid = self.uid.map_or_else(|| "?".to_owned(), |uid| uid.to_string());
        let yes = |yes| if yes { "yes" } else { "no" };
        let landlock = self.landlock.map_or_else(|| "no".to_owned(), |abi| format!("version {abi}"));
        write!(
            f,
            " (user {uid}, capabilities {capabilities}, no_new_privs {}, Landlock {landlock}, system calls filtered {})",
            yes(self.no_new_privs),
            yes(self.calls_filtered)
        )
    }
}

/// What /proc/self/status says. All of it absent where there is no such file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) uid: Option<u32>,
    pub(super) capabilities: u64,
    pub(super) no_new_privs: bool,
    pub(super) calls_filtered: bool,
    pub(super) threads: u32,
}

impl Told {
    pub(super) fn of_this_process() -> Self {
        // Of this thread: another may stand elsewhere, which is why `threads` counts.
        let read = |path| std::fs::read_to_string(path).ok();
        Told::by(&read("/proc/thread-self/status").or_else(|| read("/proc/self/status")).unwrap_or_default())
    }

    /// proc_pid_status(5).
    fn by(text: &str) -> Self {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let set = |name| u64::from_str_radix(field(name), 16).unwrap_or_default();
        Told {
            uid: field("Uid").split_whitespace().nth(1).and_then(|uid| uid.parse().ok()),
            capabilities: set("CapEff") | set("CapPrm"),
            no_new_privs: field("NoNewPrivs") == "1",
            // 2: SECCOMP_MODE_FILTER.
            calls_filtered: field("Seccomp") == "2",
            threads: field("Threads").parse().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_what_the_system_says() {
        let text = "Name:\tx\nUid:\t1000\t65534\t0\t0\nThreads:\t3\nCapInh:\t0000000000000000\nCapPrm:\t0000000000002000\n\
                    CapEff:\t0000000000000004\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let told = Told::by(text);
        let expected = Told {
            uid: Some(65534),
            capabilities: 0x2004,
            no_new_privs: true,
            calls_filtered: true,
            threads: 3,
        };
        assert_eq!(told, expected);
        assert_eq!(Told::by(""), Told::default());
    }

    #[test]
    fn what_is_missing_is_said_first() {
        let state = State {
            level: Level::Partial,
            missing: vec!["no Landlock".to_owned()],
            uid: Some(0),
            capabilities: 4,
            no_new_privs: true,
            calls_filtered: false,
            landlock: None,
        };
        assert_eq!(
            state.to_string(),
            "sandbox: partial: no Landlock (user 0, capabilities 0x4, no_new_privs yes, Landlock no, system calls filtered no)"
        );
    }
}
