//! Sockets: bound by us, or handed over by systemd. Every error is one line with the remedy.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error(
        "port {port} is taken: another program listens on {address} (`ss -ltnp 'sport = :{port}'` names it); stop it, or set {key} to another port"
    )]
    Taken {
        /// The key of the configuration.
        key: &'static str,
        /// What was to be bound.
        address: SocketAddr,
        /// Its port.
        port: u16,
    },
    /// A low port, mostly.
    #[error(
        "{key}: no right to listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one, or let systemd open the socket"
    )]
    NoRight {
        /// The key of the configuration.
        key: &'static str,
        /// What was to be bound.
        address: SocketAddr,
    },
    /// Not an address of this machine.
    #[error("{key}: this machine has no address {address}; `ip address` lists those it has")]
    NotOurs {
        /// The key of the configuration.
        key: &'static str,
        /// What was to be bound.
        address: SocketAddr,
    },
    /// Somebody answers on the socket.
    #[error("{path}: another pintle answers on this socket; stop it first, or use another store.path")]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot listen on {what}: {error}")]
    Other {
        /// What was to be bound.
        what: String,
        /// The system's words.
        error: io::Error,
    },
}

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// On the network.
    Tcp(TcpListener),
    /// On this machine; the file goes with the listener where it is ours.
    Unix(UnixListener, Option<SocketFile>),
}

/// A socket's file, removed with it.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "a socket's file stays");
        }
    }
}

impl Listener {
    /// Binds an address; `key` is the key of the configuration that it came from.
    pub async fn tcp(key: &'static str, address: SocketAddr) -> Result<Self, ListenError> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Self::Tcp(listener)),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::AddrInUse => ListenError::Taken {
                    key,
                    address,
                    port: address.port(),
                },
                io::ErrorKind::PermissionDenied => ListenError::NoRight { key, address },
                io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { key, address },
                _ => ListenError::Other {
                    what: address.to_string(),
                    error,
                },
            }),
        }
    }

    /// Binds a socket in the file system, for its owner alone (mode 0600; its folder has 0700). A file that nobody
    /// answers on is replaced.
    pub async fn unix(path: &Path) -> Result<Self, ListenError> {
        let other = |error| ListenError::Other {
            what: path.display().to_string(),
            error,
        };
        if UnixStream::connect(path).await.is_ok() {
            return Err(ListenError::SocketInUse { path: path.to_owned() });
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(other(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(other)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(other)?;
        Ok(Self::Unix(listener, Some(SocketFile(path.to_owned()))))
    }

    /// The address with the port that was bound; none for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are small and complete: waiting to fill a segment helps nobody.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                Ok((Stream::Tcp(stream), Some(address)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}

/// An accepted connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 56\r\nretry-after: 5\r\nconnection: close\r\n\r\n{\"success\":false,\"error\":\"too many connections at once\"}";

impl Stream {
    /// Says 503 as far as that is possible without waiting, and hangs up.
    pub(super) fn turn_away(self, plain: bool) -> io::Result<()> {
        if !plain {
            return Ok(());
        }
        match self {
            Self::Tcp(stream) => stream.into_std()?.write_all(BUSY),
            Self::Unix(stream) => stream.into_std()?.write_all(BUSY),
        }
    }
}

/// A socket that systemd opened.
#[derive(Debug)]
pub struct Activated {
    /// `FileDescriptorName=`, where given.
    pub name: Option<String>,
    /// The socket.
    pub listener: Listener,
}

/// The sockets that systemd opened for this process. It takes their variables out of the environment, so it is to be
/// called once, inside the runtime and before other threads read the environment.
pub fn activated() -> Result<Vec<Activated>, ListenError> {
    let names = std::env::var_os("LISTEN_FDNAMES");
    let mut sockets = listenfd::ListenFd::from_env();
    let count = sockets.len();
    let mut names = fd_names(names, count).into_iter();
    let mut found = Vec::with_capacity(count);
    for index in 0..count {
        let name = names.next().flatten();
        let listener = handed_over(&mut sockets, index).map_err(|error| ListenError::Other {
            what: format!("socket {index} of systemd's ({})", name.as_deref().unwrap_or("unnamed")),
            error,
        })?;
        found.extend(listener.map(|listener| Activated { name, listener }));
    }
    Ok(found)
}

fn handed_over(sockets: &mut listenfd::ListenFd, index: usize) -> io::Result<Option<Listener>> {
    if let Ok(tcp) = sockets.take_tcp_listener(index) {
        let Some(tcp) = tcp else { return Ok(None) };
        tcp.set_nonblocking(true)?;
        return Ok(Some(Listener::Tcp(TcpListener::from_std(tcp)?)));
    }
    let Some(unix) = sockets.take_unix_listener(index)? else {
        return Ok(None);
    };
    unix.set_nonblocking(true)?;
    Ok(Some(Listener::Unix(UnixListener::from_std(unix)?, None)))
}

fn fd_names(text: Option<OsString>, count: usize) -> Vec<Option<String>> {
    let text = text.and_then(|text| text.into_string().ok()).unwrap_or_default();
    let mut names: Vec<_> = text
        .split(':')
        .map(|name| (!name.is_empty() && name != "unknown").then(|| name.to_owned()))
        .collect();
    names.resize(count, None);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn errors_say_what_to_do() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::tcp("hub.listen", any).await.unwrap();
        let address = listener.address().unwrap();
        let error = Listener::tcp("hub.listen", address).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("port {} is taken: ", address.port())) && error.contains("hub.listen"),
            "{error}"
        );
        let foreign = SocketAddr::from(([203, 0, 113, 1], 0));
        let error = Listener::tcp("hub.listen", foreign).await.unwrap_err().to_string();
        assert!(error.contains("no address 203.0.113.1"), "{error}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_its_owners_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        std::fs::write(&path, "stale").unwrap();
        let listener = Listener::unix(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(
            Listener::unix(&path).await,
            Err(ListenError::SocketInUse { .. })
        ));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn names_of_sockets() {
        let names = fd_names(Some("hub:admin:".into()), 4);
        assert_eq!(names, [Some("hub".to_owned()), Some("admin".to_owned()), None, None]);
        assert_eq!(fd_names(None, 1), [None]);
        let body = BUSY.split(|byte| *byte == b'{').nth(1).unwrap();
        assert!(
            std::str::from_utf8(BUSY)
                .unwrap()
                .contains(&format!("content-length: {}\r\n", body.len() + 1))
        );
    }
}
