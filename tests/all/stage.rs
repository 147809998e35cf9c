//! What most tests begin with: both peers and a fresh pintle between them.

use std::time::Duration;

use serde_json::Value;

use crate::peers::eventually;
use crate::peers::gateway::seen::Tally;
use crate::peers::gateway::{Gateway, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Hub, Looker};
use crate::peers::pintle::{Config, Pintle};

/// What is no matter of waiting for anything comes within this.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Both peers and a fresh pintle between them.
pub(crate) struct Stage {
    pub(crate) looker: Looker,
    pub(crate) gateway: Gateway,
    pub(crate) pintle: Pintle,
    pub(crate) hub: Hub,
}

impl Stage {
    pub(crate) fn set() -> Self {
        Self::set_with(|config| config)
    }

    /// With more in the configuration.
    pub(crate) fn set_with(more: impl FnOnce(Config) -> Config) -> Self {
        Self::set_before(Gateway::start(Settings::default()), more)
    }

    /// Before a gateway that is there already.
    pub(crate) fn set_before(gateway: Gateway, more: impl FnOnce(Config) -> Config) -> Self {
        let looker = Looker::start();
        let pintle = Pintle::start(more(Config::for_looker(&looker)));
        let hub = pintle.hub();
        Self {
            looker,
            gateway,
            pintle,
            hub,
        }
    }

    pub(crate) fn identify(&self, delivery: Delivery) -> Execute {
        Execute::new("rudder_event", &self.gateway.url(), "key-of-the-source", delivery)
    }

    pub(crate) fn download(&self, download: Download) -> Execute {
        self.identify(Delivery::Url(self.looker.offer(download)))
    }

    pub(crate) fn rows(&self, label: &str) -> u64 {
        self.tally(label).rows
    }

    pub(crate) fn tally(&self, label: &str) -> Tally {
        self.gateway
            .seen(|seen| seen.tallies.get(label).copied().unwrap_or_default())
    }

    pub(crate) fn arrives(&self, label: &str, rows: u64) {
        eventually(&format!("{rows} rows of {label} arrive"), SOON, || {
            self.rows(label) >= rows
        });
        assert_eq!(
            self.tally(label),
            Tally {
                rows,
                last: rows,
                repeated: 0,
                jumps: 0
            }
        );
    }
}

/// The equations of a run hold at every moment.
pub(crate) fn balanced(run: &Value) {
    let number = |key: &str| run[key].as_u64().unwrap_or_else(|| panic!("no {key} in {run}"));
    assert_eq!(number("rows"), number("events") + number("dead_rows"), "{run}");
    assert_eq!(
        number("events"),
        number("delivered") + number("pending") + number("dead_events"),
        "{run}"
    );
    assert_eq!(
        number("dead_letters") + number("dropped"),
        number("dead_rows") + number("dead_events"),
        "{run}"
    );
}
