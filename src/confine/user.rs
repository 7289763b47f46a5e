//! Whom the program becomes.

use std::path::Path;

/// A user by numbers: name services are libraries that open sockets, so nobody but the file is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As it was named.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its first group. It is in no other afterwards.
    pub gid: u32,
}

/// No such user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: no such user in /etc/passwd; write a name that stands there, UID or UID:GID")]
pub struct UserError(String);

impl User {
    /// `nobody`, `65534` or `65534:65534`. A number without a group takes the group of the same number.
    ///
    /// # Errors
    /// No such name in /etc/passwd; no numbers.
    pub fn named(text: &str) -> Result<Self, UserError> {
        User::among(text, &std::fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default())
    }

    /// Hands a file or directory of ours over to this user, so that it can be written after [`super::confine`] has become
    /// that user. Nothing that lies in it is handed over.
    ///
    /// # Errors
    /// Not root, nor owner with CAP_CHOWN; the path does not exist.
    #[cfg(unix)]
    pub fn hand_over(&self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    fn among(text: &str, passwd: &str) -> Result<Self, UserError> {
        let user = |uid, gid| User { name: text.to_owned(), uid, gid };
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        if let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) {
            // The number that means "leave it" to the system is nobody's.
            return if uid == u32::MAX || gid == u32::MAX {
                Err(UserError(text.to_owned()))
            } else {
                Ok(user(uid, gid))
            };
        }
        // passwd(5): name:password:UID:GID:...
        let entry = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(text)).then_some(())?;
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        });
        entry.map(|(uid, gid)| user(uid, gid)).ok_or_else(|| UserError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_of_the_file_or_numbers() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/usr/sbin/nologin\nbroken:x:one\n";
        for (text, expected) in [
            ("nobody", Some((65534, 65533))),
            ("root", Some((0, 0))),
            ("1000", Some((1000, 1000))),
            ("1000:50", Some((1000, 50))),
            ("nobod", None),
            ("broken", None),
            ("4294967295", None),
            ("1000:x", None),
            ("", None),
        ] {
            let found = User::among(text, passwd).ok().map(|user| (user.uid, user.gid));
            assert_eq!(found, expected, "{text}");
        }
    }
}
