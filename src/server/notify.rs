//! systemd's notifications: ready, stopping, a status line, the watchdog. Without `NOTIFY_SOCKET` there is no notifier.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Speaks to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From the environment that the service manager gave.
    pub fn from_env() -> io::Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = variable("WATCHDOG_USEC").filter(|micros| ours && *micros > 0);
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Self::new(&name, watchdog.map(Duration::from_micros)).map(Some),
            _ => Ok(None),
        }
    }

    /// For a socket's name: a path, or `@` and an abstract name.
    pub fn new(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes().split_first() {
            #[cfg(target_os = "linux")]
            Some((b'@', abstract_name)) => {
                use std::os::linux::net::SocketAddrExt;
                SocketAddr::from_abstract_name(abstract_name)?
            }
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            address,
            watchdog,
        })
    }

    /// Requests are taken.
    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=draining");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// How often [`Notifier::alive`] is to be called: twice in the time that the service manager waits.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    /// There is real progress.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, text: &str) {
        if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.address) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let named = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.as_os_str(), Some(Duration::from_secs(20))).unwrap();
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_secs(10)));
        notifier.ready();
        notifier.alive();
        notifier.status("two\nlines");
        notifier.stopping();
        let mut told = Vec::new();
        for _ in 0..4 {
            let mut buffer = [0; 100];
            let count = named.recv(&mut buffer).unwrap();
            told.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
        }
        assert_eq!(
            told,
            [
                "READY=1\nSTATUS=serving",
                "WATCHDOG=1",
                "STATUS=two lines",
                "STOPPING=1\nSTATUS=draining"
            ]
        );
        let name = format!("pintle-test-{}", std::process::id());
        use std::os::linux::net::SocketAddrExt;
        let hidden = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::new(OsStr::new(&format!("@{name}")), None).unwrap().ready();
        assert!(hidden.recv(&mut [0; 100]).unwrap() > 0);
    }
}
