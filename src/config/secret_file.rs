//! A secret in a file of its own.

use std::io::Read;
use std::path::Path;

const MOST: u64 = 64 << 10;

/// The text of a secret's file without the white space around it. The error names the file, never its content.
pub(super) fn read_secret_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_string(&mut text))
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => format!("{shown} is not UTF-8 text"),
            _ => format!("cannot read {shown}: {error}"),
        })?;
    if text.len() as u64 > MOST {
        return Err(format!("{shown} is larger than 64 KiB; a secret is one line"));
    }
    let secret = text.trim();
    if secret.is_empty() {
        return Err(format!("{shown} is empty; write the secret into it"));
    }
    Ok(secret.to_owned())
}
