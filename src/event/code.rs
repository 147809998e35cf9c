//! The codes of what an operator meets. Each stands in the message, in the log, in the admin API's errors, and has a page
//! in the manual (`pintle explain P0007`). A code never changes its meaning; new ones come at the end.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The code of something that an operator may have to act on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// `P0007`
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// A destination refuses its write key.
    HeldForKey = "P0001",
    /// A destination's address is wrong.
    HeldForAddress = "P0002",
    /// A gateway refuses every event.
    GatewayBroken = "P0003",
    /// A gateway is away.
    GatewayUnreachable = "P0004",
    /// A gateway limits the rate.
    Throttled = "P0005",
    /// An event was refused for good.
    PoisonEvent = "P0006",
    /// An event is too large.
    EventTooLarge = "P0007",
    /// A destination is not known.
    DestinationUnknown = "P0008",
    /// An action's settings are incomplete.
    SettingsIncomplete = "P0009",
    /// A data plane is not allowed.
    DataPlaneOrigin = "P0010",
    /// The store is full.
    StoreFull = "P0011",
    /// The disk is nearly full.
    DiskNearlyFull = "P0012",
    /// Part of the store is damaged.
    StoreDamaged = "P0013",
    /// The store is in use.
    StoreInUse = "P0014",
    /// A write to the disk failed.
    SyncFailed = "P0015",
    /// The store is newer than this pintle.
    NewerStore = "P0016",
    /// The store's catalog was lost and rebuilt.
    CatalogRebuilt = "P0017",
    /// The store's folder belongs to another user.
    FolderNotOurs = "P0018",
    /// The store's folder cannot be used.
    FolderUnusable = "P0019",
    /// A query failed in Looker.
    QueryFailed = "P0020",
    /// A run may be cut short.
    MaybeTruncated = "P0021",
    /// A download is not allowed.
    DownloadOrigin = "P0022",
    /// A download failed.
    DownloadFailed = "P0023",
    /// A download took too long.
    DownloadTooSlow = "P0024",
    /// A result is malformed or cut.
    DocumentMalformed = "P0025",
    /// A result is beyond a limit.
    DocumentTooLarge = "P0026",
    /// A query has no identity.
    NoIdentityColumn = "P0027",
    /// A query has no group.
    NoGroupColumn = "P0028",
    /// A track call has no event name.
    NoEventName = "P0029",
    /// A row identifies nobody.
    RowWithoutIdentity = "P0030",
    /// A row of a group call has no group.
    RowWithoutGroup = "P0031",
    /// A cell is no id.
    BadIdCell = "P0032",
    /// A cell is no time.
    BadTimeCell = "P0033",
    /// No row of a run became an event.
    NoRowAccepted = "P0034",
    /// A token is refused.
    TokenRefused = "P0035",
    /// A request cannot be understood.
    RequestMalformed = "P0036",
    /// A run repeats an earlier one.
    RunRepeated = "P0037",
    /// The configuration is wrong.
    ConfigurationWrong = "P0038",
    /// An address cannot be listened on.
    PortTaken = "P0039",
    /// The certificate expires.
    CertificateExpiring = "P0040",
    /// Clocks differ.
    ClockSkew = "P0041",
    /// Too few files may be open.
    TooFewFiles = "P0042",
    /// Nothing was selected.
    NothingSelected = "P0043",
    /// A change was not confirmed.
    NotConfirmed = "P0044",
    /// An id is not known.
    NotFound = "P0045",
    /// Pintle is stopping.
    Stopping = "P0046",
    /// An alert could not be posted.
    AlertFailed = "P0047",
    /// Pintle ended during a run.
    RunInterrupted = "P0048",
    /// An event cannot be taken.
    BadEvent = "P0049",
    /// A change is not possible.
    ChangeRefused = "P0050",
    /// Too many requests at once.
    TooManyRequests = "P0051",
    /// A change matched nothing.
    NothingMatched = "P0052",
    /// A file cannot be read.
    FileUnreadable = "P0053",
    /// A command is called wrongly.
    WrongUsage = "P0054",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    /// Takes `P0007`, `p7` and `7` alike.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let digits = text.trim().trim_start_matches(['P', 'p']);
        let number = digits.parse::<u16>().map_err(|_| UnknownCode)?;
        let wanted = format!("P{number:04}");
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == wanted)
            .ok_or(UnknownCode)
    }
}

/// The text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a code such as P0007")]
pub struct UnknownCode;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_without_a_gap_and_read_back() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.as_str(), format!("P{:04}", index + 1));
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert_eq!("p7".parse(), Ok(Code::EventTooLarge));
        assert_eq!("P9999".parse::<Code>(), Err(UnknownCode));
        assert_eq!("".parse::<Code>(), Err(UnknownCode));
    }
}
