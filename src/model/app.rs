//! Application protocols that the first payload bytes of a flow give away.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An application protocol, as rules name it and as first payload bytes show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// TLS from the first byte (HTTPS and the like).
    Tls,
    /// HTTP in the clear.
    Http,
    /// SMTP, with or without STARTTLS later.
    Smtp,
    /// Tabular Data Stream (Microsoft SQL Server).
    Tds,
    /// PostgreSQL's frontend/backend protocol.
    Postgresql,
    /// MongoDB's wire protocol.
    Mongodb,
    /// SMB 1 to 3 over TCP.
    Smb,
    /// Secure Shell.
    Ssh,
    /// DNS.
    Dns,
    /// QUIC.
    Quic,
}

impl AppProtocol {
    /// All of them, in declaration order.
    pub const ALL: [AppProtocol; 10] = [
        AppProtocol::Tls,
        AppProtocol::Http,
        AppProtocol::Smtp,
        AppProtocol::Tds,
        AppProtocol::Postgresql,
        AppProtocol::Mongodb,
        AppProtocol::Smb,
        AppProtocol::Ssh,
        AppProtocol::Dns,
        AppProtocol::Quic,
    ];

    /// The lower-case word that rows and rules use.
    pub fn as_str(self) -> &'static str {
        match self {
            AppProtocol::Tls => "tls",
            AppProtocol::Http => "http",
            AppProtocol::Smtp => "smtp",
            AppProtocol::Tds => "tds",
            AppProtocol::Postgresql => "postgresql",
            AppProtocol::Mongodb => "mongodb",
            AppProtocol::Smb => "smb",
            AppProtocol::Ssh => "ssh",
            AppProtocol::Dns => "dns",
            AppProtocol::Quic => "quic",
        }
    }
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AppProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|app| app.as_str() == text).ok_or_else(|| {
            format!(
                "`{}` is no application protocol: {}",
                text.escape_default(),
                Self::ALL.map(Self::as_str).join(", ")
            )
        })
    }
}
