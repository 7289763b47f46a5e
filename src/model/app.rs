//! Application protocols that a rule may name and a flow's first bytes may show.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// An application protocol, as the field `app` of a flow row spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppProtocol {
    /// TLS over TCP; what a page calls HTTPS.
    Tls,
    /// HTTP/1 or HTTP/2 in the clear.
    Http,
    /// SMTP, with or without a later STARTTLS.
    Smtp,
    /// Tabular Data Stream: Microsoft SQL Server, TLS inside included.
    Tds,
    /// PostgreSQL's frontend/backend protocol.
    Postgresql,
    /// MongoDB's wire protocol.
    Mongodb,
    /// SMB 1 to 3.
    Smb,
    /// Secure Shell.
    Ssh,
    /// DNS over UDP or TCP.
    Dns,
    /// QUIC over UDP.
    Quic,
    /// Service discovery of UPnP: requests in the form of HTTP over UDP.
    Ssdp,
}

impl AppProtocol {
    /// All of them, in the order of this list.
    pub const ALL: [AppProtocol; 11] = [
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
        AppProtocol::Ssdp,
    ];

    /// The word for it: lower case.
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
            AppProtocol::Ssdp => "ssdp",
        }
    }
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is none of the words of [`AppProtocol::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no application protocol that portproof knows")]
pub struct AppProtocolError(String);

impl FromStr for AppProtocol {
    type Err = AppProtocolError;

    fn from_str(text: &str) -> Result<Self, AppProtocolError> {
        let known = Self::ALL.into_iter().find(|app| app.as_str() == text);
        known.ok_or_else(|| AppProtocolError(text.escape_default().to_string()))
    }
}

impl Serialize for AppProtocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AppProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
