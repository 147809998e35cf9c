//! The process's `PINTLE_…` variables, taken once at the start and handed on as an argument.

/// Names and values; a value that is not UTF-8 is remembered as such.
#[derive(Debug, Clone, Default)]
pub struct Environment(Vec<(String, Option<String>)>);

impl Environment {
    /// The variables of this process whose names begin with `PINTLE_`.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())))
                .filter(|(name, _)| name.starts_with(PREFIX))
                .collect(),
        )
    }

    /// Variables given one by one.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
                .collect(),
        )
    }

    /// A variable: none where it is not set, `Err` where it is not UTF-8.
    pub(super) fn value(&self, name: &str) -> Option<Result<&str, NotUtf8>> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_deref().ok_or(NotUtf8))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// A variable's value is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotUtf8;

/// Names the configuration's file where `--config` does not.
pub(super) const CONFIG: &str = "PINTLE_CONFIG";

const PREFIX: &str = "PINTLE_";
