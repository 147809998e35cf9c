//! Why a request had no answer, in a few plain words. What the HTTP client says is the chain of its own rooms ("client
//! error (Connect): tcp connect error: …"); people need its last cause alone. One place for downloads and deliveries, so
//! that Looker, a destination's reason and the log say the same. Pure; the address never stands in it.

use std::error::Error;
use std::io;

/// The longest cause that is quoted, in characters.
const CHARACTERS: usize = 160;

/// The plain words for an error and its causes.
pub fn plain(error: &(dyn Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    let texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
    let says = |words: &str| texts.iter().any(|text| text.contains(words));
    if let Some(certificate) = texts
        .iter()
        .rev()
        .find_map(|text| after(text, "invalid peer certificate: "))
    {
        return format!("certificate not trusted: {}", certificate_fault(certificate));
    }
    if says("InvalidContentType") || says("received corrupt message") {
        return "it does not speak TLS there".to_owned();
    }
    if says("dns error")
        && let Some(last) = texts.last()
    {
        return resolving(last);
    }
    if let Some(known) = causes
        .iter()
        .find_map(|cause| cause.downcast_ref::<io::Error>().and_then(connection))
    {
        return known.to_owned();
    }
    if says("timed out") {
        return "timed out".to_owned();
    }
    if says("connection closed before") || says("unexpected EOF") || says("unexpected end of file") {
        return "the connection was cut".to_owned();
    }
    let last = texts.last().map_or("the request failed", |text| text.as_str());
    last.chars().take(CHARACTERS).collect()
}

fn after<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    text.split_once(words).map(|(_, rest)| rest)
}

/// What the system says of a connection.
fn connection(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => "the connection was cut",
        io::ErrorKind::TimedOut => "timed out",
        io::ErrorKind::HostUnreachable => "the host cannot be reached",
        io::ErrorKind::NetworkUnreachable => "the network cannot be reached",
        _ => return None,
    })
}

/// A name that leads nowhere, or to what is never called: that refusal is ours, and says itself what it is.
fn resolving(last: &str) -> String {
    match after(last, "failed to lookup address information: ") {
        Some("Temporary failure in name resolution") => "the name server does not answer".to_owned(),
        Some(_) => "name not found".to_owned(),
        None => last.chars().take(CHARACTERS).collect(),
    }
}

fn certificate_fault(said: &str) -> String {
    let fault = said.to_ascii_lowercase();
    if fault.contains("unknownissuer") || fault.contains("unknown issuer") {
        "its issuer is not known here".to_owned()
    } else if fault.contains("expired") {
        "it has expired".to_owned()
    } else if fault.contains("notvalidyet") || fault.contains("not valid yet") {
        "it is not valid yet".to_owned()
    } else if fault.contains("notvalidforname") || fault.contains("not valid for name") {
        "it is for another name".to_owned()
    } else {
        said.chars().take(CHARACTERS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Link {
        said: String,
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    }

    fn chain(said: &[&str], last: Option<io::Error>) -> Link {
        let mut cause: Option<Box<dyn Error + Send + Sync>> = last.map(Into::into);
        for said in said.iter().skip(1).rev() {
            cause = Some(Box::new(Link {
                said: (*said).to_owned(),
                cause,
            }));
        }
        Link {
            said: said.first().copied().unwrap_or("").to_owned(),
            cause,
        }
    }

    #[test]
    fn the_cause_is_said_in_a_few_words() {
        let connect = ["error sending request", "client error (Connect)", "tcp connect error"];
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(plain(&chain(&connect, Some(refused))), "connection refused");
        let unreachable = io::Error::from_raw_os_error(113);
        assert_eq!(plain(&chain(&connect, Some(unreachable))), "the host cannot be reached");
        let named = |last: &str| plain(&chain(&["client error (Connect)", "dns error", last], None));
        assert_eq!(
            named("failed to lookup address information: Name or service not known"),
            "name not found"
        );
        assert_eq!(
            named("failed to lookup address information: Temporary failure in name resolution"),
            "the name server does not answer"
        );
        assert_eq!(
            named("its address 169.254.169.254 is never called"),
            "its address 169.254.169.254 is never called"
        );
        let tls = |said: &str| {
            let inner = io::Error::new(io::ErrorKind::InvalidData, format!("invalid peer certificate: {said}"));
            plain(&chain(&["client error (Connect)"], Some(inner)))
        };
        assert_eq!(
            tls("UnknownIssuer"),
            "certificate not trusted: its issuer is not known here"
        );
        assert_eq!(
            tls("certificate not valid for name \"a\"; certificate is only valid for DnsName(\"b\")"),
            "certificate not trusted: it is for another name"
        );
        assert_eq!(tls("BadSignature"), "certificate not trusted: BadSignature");
        assert_eq!(
            plain(&chain(&["error sending request", "operation timed out"], None)),
            "timed out"
        );
        assert_eq!(
            plain(&chain(
                &[
                    "client error (SendRequest)",
                    "connection closed before message completed"
                ],
                None
            )),
            "the connection was cut"
        );
        assert_eq!(plain(&chain(&["a", "b", "something new"], None)), "something new");
    }
}
