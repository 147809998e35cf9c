//! Names to addresses, each time anew, and no way to a machine's own metadata: a name that resolves to an address that
//! is never called is refused.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::event::network::resolve_allowed;

/// Resolves by the system, and refuses names that lead to link-local and metadata addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = resolve_allowed(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
