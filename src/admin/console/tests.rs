//! The console over requests, without a socket.

use hyper::Request;

use super::*;

fn console() -> Console {
    Console::new(Secret::new("correct horse battery staple"))
}

fn post(path: &str, body: &str) -> Request<Bytes> {
    Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap()
}

fn ask(console: &Console, request: Request<Bytes>) -> (StatusCode, HeaderMap, serde_json::Value) {
    let (mut head, body) = request.into_parts();
    head.extensions.insert(Client {
        address: Some(IpAddr::from([127, 0, 0, 1])),
        secure: false,
    });
    let (parts, body) = secured(console.answer(&head, &body).unwrap()).into_parts();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    (parts.status, parts.headers, json)
}

fn cookie_of(headers: &HeaderMap) -> String {
    let cookie = headers.get(SET_COOKIE).unwrap().to_str().unwrap();
    for word in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

fn headers(cookie: &str, csrf: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("cookie", cookie.parse().unwrap());
    if let Some(csrf) = csrf {
        headers.insert("x-csrf-token", csrf.parse().unwrap());
    }
    headers
}

#[test]
fn a_login_opens_and_a_logout_ends() {
    let console = console();
    let (status, answered, json) = ask(
        &console,
        post("/session", r#"{"token":"correct horse battery staple"}"#),
    );
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answered.get("x-frame-options").unwrap(), "DENY");
    let (cookie, csrf) = (cookie_of(&answered), json["csrf_token"].as_str().unwrap().to_owned());

    assert_eq!(console.admit(&Method::GET, &headers(&cookie, None)), Admission::Session);
    assert_eq!(
        console.admit(&Method::POST, &headers(&cookie, None)),
        Admission::NoCsrfToken
    );
    assert_eq!(
        console.admit(&Method::POST, &headers(&cookie, Some("00"))),
        Admission::NoCsrfToken
    );
    assert_eq!(
        console.admit(&Method::POST, &headers(&cookie, Some(&csrf))),
        Admission::Session
    );
    assert_eq!(
        console.admit(&Method::GET, &headers("pintle_x=1", Some(&csrf))),
        Admission::None
    );

    let mut end = post("/session/end", "{}");
    end.headers_mut().extend(headers(&cookie, None));
    assert_eq!(ask(&console, end).0, StatusCode::FORBIDDEN);
    let mut end = post("/session/end", "{}");
    end.headers_mut().extend(headers(&cookie, Some(&csrf)));
    let (status, answered, _) = ask(&console, end);
    assert_eq!(status, StatusCode::OK);
    assert!(
        answered
            .get(SET_COOKIE)
            .unwrap()
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    assert_eq!(console.admit(&Method::GET, &headers(&cookie, None)), Admission::None);
}

#[test]
fn a_link_logs_in_once_and_secure_follows_the_proxy() {
    let console = console();
    let code = console.login_code().unwrap();
    let mut login = post("/session", &json!({ "code": code }).to_string());
    login
        .headers_mut()
        .insert("x-forwarded-proto", HeaderValue::from_static("https"));
    let (status, answered, _) = ask(&console, login);
    assert_eq!(status, StatusCode::OK);
    assert!(
        answered
            .get(SET_COOKIE)
            .unwrap()
            .to_str()
            .unwrap()
            .ends_with("; Secure")
    );
    let again = ask(&console, post("/session", &json!({ "code": code }).to_string()));
    assert_eq!(again.0, StatusCode::UNAUTHORIZED);
    assert!(again.2["error"].as_str().unwrap().contains("used before"));
}

#[test]
fn a_guesser_waits_alone_and_another_site_is_refused() {
    let console = console();
    let good = || post("/session", r#"{"token":"correct horse battery staple"}"#);
    let mut elsewhere = good();
    elsewhere
        .headers_mut()
        .insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
    assert_eq!(ask(&console, elsewhere).0, StatusCode::FORBIDDEN);
    let mut form = good();
    form.headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    assert_eq!(ask(&console, form).0, StatusCode::FORBIDDEN);

    for _ in 0..10 {
        let (status, _, json) = ask(&console, post("/session", r#"{"token":""}"#));
        assert_eq!((status, &json["code"]), (StatusCode::UNAUTHORIZED, &json!("P0035")));
    }
    let code = console.login_code().unwrap();
    for wrong in [r#"{"token":"x"}"#, r#"{"code":"x"}"#] {
        let (status, answered, _) = ask(&console, post("/session", wrong));
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert!(answered.contains_key(RETRY_AFTER));
    }
    // Whoever has the token or the link is not kept out by who guesses at the same address.
    let link = post("/session", &json!({ "code": code }).to_string());
    for right in [good(), good(), link] {
        assert_eq!(ask(&console, right).0, StatusCode::OK);
    }
    assert_eq!(
        ask(&console, post("/session", r#"{"token":"x"}"#)).0,
        StatusCode::TOO_MANY_REQUESTS,
        "a good login forgives no guess"
    );
    // An empty token in the configuration opens to nobody.
    let closed = Console::new(Secret::default());
    assert_eq!(
        ask(&closed, post("/session", r#"{"token":""}"#)).0,
        StatusCode::UNAUTHORIZED
    );
}

#[test]
fn every_file_that_the_page_names_is_there_and_nothing_is_inline() {
    let console = console();
    let get = |path: &str| Request::get(path).body(Bytes::new()).unwrap();
    let page = include_str!("assets/index.html");
    assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onclick"));
    for (at, _) in page.match_indices("<script") {
        assert!(page[at..].starts_with("<script type=\"module\" src=\"/assets/"));
    }
    let scripts = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/console/assets")).unwrap();
    for entry in scripts {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if name == "index.html" {
            "/".to_owned()
        } else {
            format!("/assets/{name}")
        };
        let (status, headers, _) = ask(&console, get(&path));
        assert_eq!(status, StatusCode::OK, "{path} is not compiled in");
        let policy = headers.get("content-security-policy").unwrap().to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
        let mut again = get(&path);
        again
            .headers_mut()
            .insert("if-none-match", headers.get("etag").unwrap().clone());
        assert_eq!(ask(&console, again).0, StatusCode::NOT_MODIFIED);
        let text = std::fs::read_to_string(entry.path()).unwrap();
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!text.contains(forbidden), "{name} uses {forbidden}");
        }
        assert!(
            !text.replace("http://www.w3.org/", "").contains("http://") && !text.contains("https://"),
            "{name} names another place"
        );
        assert!(text.lines().count() <= 320, "{name} is long");
    }
    for elsewhere in ["/assets/../mod.rs", "/api/status"] {
        let (head, _) = get(elsewhere).into_parts();
        assert!(console.answer(&head, &[]).is_none());
    }
}
