//! Which of Looker's routes a request is for, with and without the path prefix of the public URL (a proxy may take it
//! off or leave it). Pure.

use hyper::Method;

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `POST /`
    List,
    /// `POST /actions/{name}`
    Definition(&'a str),
    /// `POST /actions/{name}/form`
    Form(&'a str),
    /// `POST /actions/{name}/execute`
    Execute(&'a str),
    /// `GET /health`
    Health,
    /// `GET /ready`
    Ready,
    /// `GET /status`
    Status,
    /// The path is one of ours, the method is not; the one that is.
    WrongMethod(&'static str),
    /// None of ours.
    NotFound,
}

/// `prefix` is the public URL's path, without a trailing slash.
pub(super) fn route<'a>(method: &Method, path: &'a str, prefix: &str) -> Route<'a> {
    let inner = path
        .strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path);
    let route = match inner {
        "" | "/" => Route::List,
        "/health" => Route::Health,
        "/ready" => Route::Ready,
        "/status" => Route::Status,
        _ => action(inner).unwrap_or(Route::NotFound),
    };
    match route {
        Route::NotFound => route,
        Route::Health | Route::Ready | Route::Status if matches!(*method, Method::GET | Method::HEAD) => route,
        Route::Health | Route::Ready | Route::Status => Route::WrongMethod("GET, HEAD"),
        _ if *method == Method::POST => route,
        _ => Route::WrongMethod("POST"),
    }
}

fn action(path: &str) -> Option<Route<'_>> {
    let mut parts = path.strip_prefix("/actions/")?.split('/');
    let name = parts.next().filter(|name| !name.is_empty())?;
    match (parts.next(), parts.next()) {
        (None, _) => Some(Route::Definition(name)),
        (Some("form"), None) => Some(Route::Form(name)),
        (Some("execute"), None) => Some(Route::Execute(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route() {
        let cases = [
            (Method::POST, "/", Route::List),
            (Method::GET, "/", Route::WrongMethod("POST")),
            (Method::POST, "/actions/rudder_event", Route::Definition("rudder_event")),
            (Method::POST, "/actions/x/form", Route::Form("x")),
            (Method::POST, "/actions/x/execute", Route::Execute("x")),
            (Method::PUT, "/actions/x/execute", Route::WrongMethod("POST")),
            (Method::POST, "/actions/x/execute/", Route::NotFound),
            (Method::POST, "/actions/x/other", Route::NotFound),
            (Method::POST, "/actions//execute", Route::NotFound),
            (Method::POST, "/actions/", Route::NotFound),
            (Method::POST, "/actions", Route::NotFound),
            (Method::GET, "/health", Route::Health),
            (Method::HEAD, "/ready", Route::Ready),
            (Method::GET, "/status", Route::Status),
            (Method::POST, "/health", Route::WrongMethod("GET, HEAD")),
            (Method::GET, "/metrics", Route::NotFound),
            (Method::GET, "//", Route::NotFound),
        ];
        for (method, path, expected) in cases {
            assert_eq!(route(&method, path, ""), expected, "{method} {path}");
            assert_eq!(route(&method, path, "/a/b"), expected, "{method} {path}");
            assert_eq!(
                route(&method, &format!("/a/b{path}"), "/a/b"),
                expected,
                "{method} {path}"
            );
        }
        assert_eq!(route(&Method::POST, "/a", "/a"), Route::List);
        assert_eq!(route(&Method::POST, "/ab/actions/x", "/a"), Route::NotFound);
    }
}
