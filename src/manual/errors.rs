//! A page for each error code: what it means and what to do. `pintle explain` prints them.

use crate::event::Code;

/// A code's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The code.
    pub code: Code,
    /// One line.
    pub title: &'static str,
    /// What it means and what to do, in lines of at most 78 characters.
    pub text: &'static str,
}

/// The page of a code.
pub fn page(code: Code) -> Page {
    let markdown = match code {
        Code::HeldForKey => include_str!("errors/P0001.md"),
        Code::HeldForAddress => include_str!("errors/P0002.md"),
        Code::GatewayBroken => include_str!("errors/P0003.md"),
        Code::GatewayUnreachable => include_str!("errors/P0004.md"),
        Code::Throttled => include_str!("errors/P0005.md"),
        Code::PoisonEvent => include_str!("errors/P0006.md"),
        Code::EventTooLarge => include_str!("errors/P0007.md"),
        Code::DestinationUnknown => include_str!("errors/P0008.md"),
        Code::SettingsIncomplete => include_str!("errors/P0009.md"),
        Code::DataPlaneOrigin => include_str!("errors/P0010.md"),
        Code::StoreFull => include_str!("errors/P0011.md"),
        Code::DiskNearlyFull => include_str!("errors/P0012.md"),
        Code::StoreDamaged => include_str!("errors/P0013.md"),
        Code::StoreInUse => include_str!("errors/P0014.md"),
        Code::SyncFailed => include_str!("errors/P0015.md"),
        Code::NewerStore => include_str!("errors/P0016.md"),
        Code::CatalogRebuilt => include_str!("errors/P0017.md"),
        Code::FolderNotOurs => include_str!("errors/P0018.md"),
        Code::FolderUnusable => include_str!("errors/P0019.md"),
        Code::QueryFailed => include_str!("errors/P0020.md"),
        Code::MaybeTruncated => include_str!("errors/P0021.md"),
        Code::DownloadOrigin => include_str!("errors/P0022.md"),
        Code::DownloadFailed => include_str!("errors/P0023.md"),
        Code::DownloadTooSlow => include_str!("errors/P0024.md"),
        Code::DocumentMalformed => include_str!("errors/P0025.md"),
        Code::DocumentTooLarge => include_str!("errors/P0026.md"),
        Code::NoIdentityColumn => include_str!("errors/P0027.md"),
        Code::NoGroupColumn => include_str!("errors/P0028.md"),
        Code::NoEventName => include_str!("errors/P0029.md"),
        Code::RowWithoutIdentity => include_str!("errors/P0030.md"),
        Code::RowWithoutGroup => include_str!("errors/P0031.md"),
        Code::BadIdCell => include_str!("errors/P0032.md"),
        Code::BadTimeCell => include_str!("errors/P0033.md"),
        Code::NoRowAccepted => include_str!("errors/P0034.md"),
        Code::TokenRefused => include_str!("errors/P0035.md"),
        Code::RequestMalformed => include_str!("errors/P0036.md"),
        Code::RunRepeated => include_str!("errors/P0037.md"),
        Code::ConfigurationWrong => include_str!("errors/P0038.md"),
        Code::PortTaken => include_str!("errors/P0039.md"),
        Code::CertificateExpiring => include_str!("errors/P0040.md"),
        Code::ClockSkew => include_str!("errors/P0041.md"),
        Code::TooFewFiles => include_str!("errors/P0042.md"),
        Code::NothingSelected => include_str!("errors/P0043.md"),
        Code::NotConfirmed => include_str!("errors/P0044.md"),
        Code::NotFound => include_str!("errors/P0045.md"),
        Code::Stopping => include_str!("errors/P0046.md"),
        Code::AlertFailed => include_str!("errors/P0047.md"),
        Code::RunInterrupted => include_str!("errors/P0048.md"),
        Code::BadEvent => include_str!("errors/P0049.md"),
        Code::ChangeRefused => include_str!("errors/P0050.md"),
        Code::TooManyRequests => include_str!("errors/P0051.md"),
        Code::NothingMatched => include_str!("errors/P0052.md"),
        Code::FileUnreadable => include_str!("errors/P0053.md"),
        Code::WrongUsage => include_str!("errors/P0054.md"),
    };
    let (title, text) = title_and_text(markdown);
    Page { code, title, text }
}

/// The first line without its `# `, and what follows it.
fn title_and_text(markdown: &'static str) -> (&'static str, &'static str) {
    let (title, text) = markdown.split_once('\n').unwrap_or((markdown, ""));
    (title.trim_start_matches("# "), text.trim())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_code_has_a_page_of_its_own() {
        let mut titles = BTreeSet::new();
        for code in Code::ALL.iter().copied() {
            let page = page(code);
            assert!(titles.insert(page.title), "{code} has the title of another code");
            assert!(page.title.len() <= 60, "{code}: the title is long");
            let (means, to_do) = page.text.split_once("\nWhat to do:\n").unwrap_or_default();
            assert!(
                means.len() > 80 && to_do.len() > 10,
                "{code} lacks what it means or what to do"
            );
            for line in page.text.lines() {
                assert!(line.chars().count() <= 78, "{code}: {line}");
            }
        }
    }

    #[test]
    fn each_page_has_its_code() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/manual/errors");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let codes: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
        assert_eq!(files, codes);
        for code in Code::ALL.iter().copied() {
            let markdown = std::fs::read_to_string(format!("{folder}/{code}.md")).unwrap();
            assert!(
                markdown.starts_with(&format!("# {}\n", page(code).title)),
                "{code} shows another page"
            );
        }
    }

    #[test]
    fn pages_name_only_settings_and_commands_that_exist() {
        let keys: BTreeSet<String> = crate::config::key_names().collect();
        for code in Code::ALL.iter().copied() {
            for quoted in page(code).text.split('`').skip(1).step_by(2) {
                let words = quoted.split_whitespace().collect::<Vec<_>>().join(" ");
                let is_key = words.split_once('.').is_some_and(|(table, name)| {
                    keys.iter().any(|key| key.starts_with(&format!("{table}.")))
                        && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                        && words != "admin.sock"
                });
                assert!(!is_key || keys.contains(&words), "{code}: {words} is no setting");
            }
        }
    }
}
