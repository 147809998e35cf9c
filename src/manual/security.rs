//! # Security
//!
//! ## Who can do what
//!
//! * **The hub's listener** takes Looker's requests with a valid token only, in the scheme of the stock hub: a nonce and its
//!   HMAC-SHA-512 under `hub.secret`, compared in constant time. Whoever has a token can send rows, and with them write
//!   keys of his own. `/health`, `/ready` and `/status` need none and say little.
//! * **The admin listener** (`admin.listen`) can read and change everything. It is bound to this machine by default, and needs
//!   the admin token for all but `/metrics` and `/health`. It speaks no TLS: for other machines put a proxy in front.
//! * **The socket** `admin.sock` in the store's folder needs no token: it has mode 0600, in a folder with mode 0700.
//!
//! ## What pintle calls
//!
//! A download's address comes in a request, so it is fetched only from `looker.allowed_origins`; the list is empty at
//! first, and then nothing is fetched. `rudderstack.allowed_origins` does the same for data planes, where the list is
//! filled. Redirects to another origin are not followed.
//!
//! ## Where secrets lie
//!
//! * Write keys lie **in clear** in the store, since the backlog must be sent with them, and so do the events. The folder
//!   is readable by its owner alone; encrypt the disk where that is not enough, and its backups.
//! * `secret` and `admin-token` in the store's folder are made at the first start where the configuration gives none.
//! * Each secret can come from a file of its own (`hub.secret_file`, `admin.token_file`, `write_key_file`), so that
//!   none has to stand in the configuration.
//! * No secret is printed by `pintle check`, stands in a log line, in a metric or in an error. Row values stand in no log
//!   line, at any level. A download's address is itself a credential, and is not logged.
//!
//! ## Bounds
//!
//! Bodies, rows, depth, names, queues, connections and times are bounded, so that no single request can take the
//! process down. What came from Looker is printed without control characters.
