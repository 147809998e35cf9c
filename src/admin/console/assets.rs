//! The files of the page, compiled in. A browser keeps them and asks each time whether they are still the same.

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};

use super::Answer;

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($path:literal $kind:expr, $file:literal;)*) => {
        &[$(($path, $kind, include_bytes!(concat!("assets/", $file)).as_slice()),)*]
    };
}

const FILES: &[(&str, &str, &[u8])] = files! {
    "/" "text/html; charset=utf-8", "index.html";
    "/assets/console.css" "text/css; charset=utf-8", "console.css";
    "/assets/icon.svg" "image/svg+xml", "icon.svg";
    "/assets/app.js" SCRIPT, "app.js";
    "/assets/api.js" SCRIPT, "api.js";
    "/assets/dialog.js" SCRIPT, "dialog.js";
    "/assets/dom.js" SCRIPT, "dom.js";
    "/assets/filter.js" SCRIPT, "filter.js";
    "/assets/format.js" SCRIPT, "format.js";
    "/assets/parts.js" SCRIPT, "parts.js";
    "/assets/plot.js" SCRIPT, "plot.js";
    "/assets/page-dead.js" SCRIPT, "page-dead.js";
    "/assets/page-destination.js" SCRIPT, "page-destination.js";
    "/assets/page-login.js" SCRIPT, "page-login.js";
    "/assets/page-overview.js" SCRIPT, "page-overview.js";
    "/assets/page-replay.js" SCRIPT, "page-replay.js";
    "/assets/page-run.js" SCRIPT, "page-run.js";
    "/assets/page-runs.js" SCRIPT, "page-runs.js";
};

pub(super) struct Assets(Vec<Asset>);

struct Asset {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
    tag: String,
}

impl Assets {
    pub(super) fn new() -> Self {
        let asset = |&(path, kind, content): &(&'static str, &'static str, &'static [u8])| Asset {
            path,
            kind,
            content,
            tag: format!("\"{:08x}-{}\"", crc32fast::hash(content), content.len()),
        };
        Self(FILES.iter().map(asset).collect())
    }

    pub(super) fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Answer> {
        let asset = self.0.iter().find(|asset| asset.path == path)?;
        let known = headers
            .get(IF_NONE_MATCH)
            .is_some_and(|tag| tag.as_bytes() == asset.tag.as_bytes());
        let mut response = Response::new(if known {
            Bytes::new()
        } else {
            Bytes::from_static(asset.content)
        });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&asset.tag) {
            headers.insert(ETAG, tag);
        }
        Some(response)
    }
}
