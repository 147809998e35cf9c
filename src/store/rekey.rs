//! Another key, or another address, for a destination that stays the same: its id, its backlog, its accounts.

use super::catalog::Changes;
use super::error::Result;
use super::keys;
use super::records::DestinationRecord;
use super::{Store, state::Inner};
use crate::event::{Destination, DestinationId, WriteKey};

impl Store {
    /// Gives a destination another key, and another URL where one is given. Its id stays, and what comes under the new
    /// key goes to it too. Where the configuration names it, this counts until the configuration says something else than
    /// it does now. Durable when it returns.
    pub fn rekey(&self, id: &DestinationId, url: Option<&str>, key: &WriteKey) -> Result<Destination> {
        self.inner.rekey(id, url, key)
    }
}

impl Inner {
    fn rekey(&self, id: &DestinationId, url: Option<&str>, key: &WriteKey) -> Result<Destination> {
        let state = self.destination_state(id)?;
        let record = state.record.with(|record| -> Result<DestinationRecord> {
            let mut changed = record.clone();
            if changed.name.is_some() && changed.instead_of.is_none() {
                changed.instead_of = Some(DestinationId::of(&changed.url, &WriteKey::new(changed.key.as_str())));
            }
            if let Some(url) = url {
                url.clone_into(&mut changed.url);
            }
            changed.key = key.expose().to_owned();
            let mut changes = Changes::new();
            changes.put(keys::destination(id.as_str()), &changed)?;
            // Its id stays that of the key it came with, which is known no more but for this.
            let before = DestinationId::digest(&record.url, &WriteKey::new(record.key.as_str()));
            if DestinationId::of_digest(&before) == record.id {
                changes.put_bytes(keys::whole_digest(record.id.as_str()), before.to_vec());
            }
            let digest = DestinationId::digest(&changed.url, key);
            let under_new_key = DestinationId::of_digest(&digest);
            // One that is a destination already keeps its own backlog and accounts.
            let known = self.destinations.with(|all| all.contains_key(&under_new_key));
            if !known {
                changes.put_bytes(keys::alias(under_new_key.as_str()), id.as_str().as_bytes().to_vec());
                changes.put_bytes(keys::whole_digest(under_new_key.as_str()), digest.to_vec());
            }
            self.catalog.apply(changes)?;
            *record = changed.clone();
            Ok(changed)
        })?;
        self.catalog.commit()?;
        Ok(Destination {
            id: record.id,
            name: record.name,
            url: record.url,
            write_key: key.clone(),
        })
    }
}
