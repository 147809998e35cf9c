//! Which of the sockets that systemd opened is for whom. Requests that come while pintle restarts wait in such a socket,
//! so that Looker sends nothing twice.

use std::net::SocketAddr;

use super::listen::{Activated, ListenError, Listener, activated};

/// The sockets that systemd opened and nobody has taken yet.
pub(super) struct HandedOver(Vec<Activated>);

impl HandedOver {
    /// Once, inside the runtime.
    pub(super) fn from_env() -> Result<Self, ListenError> {
        activated().map(Self)
    }

    /// The socket for `hub` or `admin`, whose listen address is configured as `address`.
    pub(super) fn take(&mut self, role: &str, address: SocketAddr) -> Option<Listener> {
        let offered: Vec<_> = self
            .0
            .iter()
            .map(|socket| (socket.name.as_deref(), socket.listener.address()))
            .collect();
        let at = choose(&offered, role, address)?;
        let taken = self.0.remove(at).listener;
        tracing::info!(
            event = "socket_taken_over", role, address = ?taken.address(), configured = %address,
            "listening on the socket that systemd opened"
        );
        Some(taken)
    }

    /// Says which sockets nobody wants.
    pub(super) fn warn_of_the_rest(self) {
        for socket in self.0 {
            tracing::warn!(
                event = "socket_not_wanted", name = ?socket.name, address = ?socket.listener.address(),
                "systemd handed over a socket that is neither hub.listen nor admin.listen: name it with FileDescriptorName=hub or =admin, or take it out of pintle.socket"
            );
        }
    }
}

/// By its name; else by its port; else, for the hub, the only socket that there is.
fn choose(offered: &[(Option<&str>, Option<SocketAddr>)], role: &str, wanted: SocketAddr) -> Option<usize> {
    let named = |name: Option<&str>| matches!(name, Some("hub" | "admin"));
    let by_name = offered.iter().position(|(name, _)| *name == Some(role));
    let by_port = || {
        offered.iter().position(|(name, address)| {
            !named(*name) && wanted.port() != 0 && address.is_some_and(|address| address.port() == wanted.port())
        })
    };
    let only = || matches!(offered, [(name, _)] if role == "hub" && !named(*name)).then_some(0);
    by_name.or_else(by_port).or_else(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_before_ports_and_ports_before_being_alone() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let hub = at("0.0.0.0:8480");
        let admin = at("127.0.0.1:8481");
        let (v6, other) = (Some(at("[::]:8480")), Some(at("[::]:443")));
        assert_eq!(choose(&[], "hub", hub), None);
        let unnamed = [(Some("pintle.socket"), Some(admin)), (Some("pintle.socket"), v6)];
        assert_eq!(choose(&unnamed, "hub", hub), Some(1));
        assert_eq!(choose(&unnamed, "admin", admin), Some(0));
        let named = [(Some("admin"), v6), (Some("hub"), Some(admin))];
        assert_eq!(choose(&named, "hub", hub), Some(1));
        assert_eq!(choose(&named, "admin", admin), Some(0));
        assert_eq!(choose(&[(None, other)], "hub", hub), Some(0));
        assert_eq!(choose(&[(None, other)], "admin", admin), None);
        assert_eq!(choose(&[(Some("admin"), v6)], "hub", hub), None);
        assert_eq!(choose(&[(None, other), (None, other)], "hub", hub), None);
    }
}
