//! What the shim has recorded.

use std::path::Path;

/// One thing that was done to the files.
#[derive(Debug, Clone)]
pub(crate) enum Done {
    Create(String),
    Write {
        path: String,
        at: u64,
        data: Vec<u8>,
    },
    /// With the flag that it was a whole fsync.
    Sync(String, bool),
    Rename(String, String),
    Unlink(String),
    Truncate(String, u64),
    MakeFolder(String),
    RemoveFolder(String),
}

impl Done {
    /// Whether it changes names.
    pub(crate) const fn is_of_names(&self) -> bool {
        matches!(
            self,
            Self::Create(_) | Self::Rename(..) | Self::Unlink(_) | Self::MakeFolder(_) | Self::RemoveFolder(_)
        )
    }
}

/// Reads a log of the shim's.
pub(crate) fn read(log: &Path) -> Vec<Done> {
    let bytes = std::fs::read(log).unwrap_or_default();
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    while let Some(done) = take(&mut rest) {
        all.push(done);
    }
    all
}

fn take(rest: &mut &[u8]) -> Option<Done> {
    let mut bytes = |len: usize| -> Option<&[u8]> {
        let (head, tail) = rest.split_at_checked(len)?;
        *rest = tail;
        Some(head)
    };
    let what = bytes(1)?[0];
    let mut text = || -> Option<String> {
        let len = u32::from_le_bytes(bytes(4)?.try_into().unwrap());
        Some(String::from_utf8(bytes(len as usize)?.to_vec()).unwrap())
    };
    let path = text()?;
    let second = text()?;
    let number = u64::from_le_bytes(bytes(8)?.try_into().unwrap());
    let len = u32::from_le_bytes(bytes(4)?.try_into().unwrap());
    let data = bytes(len as usize)?.to_vec();
    Some(match what {
        1 => Done::Create(path),
        2 => Done::Write { path, at: number, data },
        3 => Done::Sync(path, true),
        4 => Done::Sync(path, false),
        5 => Done::Rename(path, second),
        6 => Done::Unlink(path),
        7 => Done::Truncate(path, number),
        8 => Done::MakeFolder(path),
        9 => Done::RemoveFolder(path),
        other => panic!("record {other}"),
    })
}
