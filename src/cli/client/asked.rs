//! What a command asks the API for: paths with their queries, and a selection as the members of a body.

use crate::admin::api::encode_segment;
use crate::admin::selection::Selection;

/// A path of the API with its query.
pub(in crate::cli) fn path<V: AsRef<str>>(
    segments: &[&str],
    query: impl IntoIterator<Item = (&'static str, V)>,
) -> String {
    let segments: Vec<String> = segments.iter().map(|segment| encode_segment(segment)).collect();
    let mut query_text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in query {
        query_text.append_pair(name, value.as_ref());
    }
    let query = query_text.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/api/{}{mark}{query}", segments.join("/"))
}

/// A path without a query.
pub(in crate::cli) fn plain(segments: &[&str]) -> String {
    path::<&str>(segments, [])
}

/// A selection as the members of a body.
pub(in crate::cli) fn members(selection: &Selection) -> serde_json::Map<String, serde_json::Value> {
    let mut members = serde_json::Map::new();
    let mut runs = Vec::new();
    for (name, value) in selection.pairs() {
        if name == "run" {
            runs.push(serde_json::Value::String(value));
        } else {
            members.insert(name.to_owned(), serde_json::Value::String(value));
        }
    }
    if !runs.is_empty() {
        members.insert("run".to_owned(), serde_json::Value::Array(runs));
    }
    members
}
