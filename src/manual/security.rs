//! # Security
//!
//! What pintle defends, against whom, with what, and what it does not defend. Each attack below has a test in
//! `tests/all/hostile.rs` or beside the code; `tests/all/storm.rs` has them all at once.
//!
//! ## Who may do what
//!
//! | who | may | may not |
//! | --- | --- | --- |
//! | anybody who reaches `hub.listen` | `/health`, `/ready`, `/status` (name and version) | anything else: the token is checked before a body is read |
//! | who has Looker's token | see the list of actions, open forms, send rows to the named destinations, and to any data plane with any write key (`rudderstack.allowed_origins` narrows that) | read rows, keys or the names of folders; make pintle fetch from anywhere but `looker.allowed_origins` |
//! | anybody who reaches `admin.listen` | `/health`, `/metrics`, the console's empty page | anything else |
//! | who has the admin token, or a session of the console | see all events, replay, drop dead letters, pause and give destinations other keys | read write keys (four letters are shown), change the configuration |
//! | who may open `admin.sock` (the service's user, root) | the same without a token | |
//! | who may read the store's folder (the service's user, root) | everything: it holds write keys, events, the secret and the token in clear | |
//!
//! Looker's token is the stock hub's: a nonce and its HMAC-SHA-512 under `hub.secret`, compared in constant time with every
//! accepted secret. The admin token is compared in constant time too. A wrong one is logged at a bounded rate, never with
//! its text, and a flood is answered 429; a good one always passes, so that nobody is locked out by his neighbour. That
//! is enough for the 32 random bytes that pintle makes; a secret of less than 16 characters is warned of.
//!
//! The console keeps the token nowhere. Its cookie is HttpOnly and SameSite=Strict, each change needs the session's CSRF
//! token, and its Content-Security-Policy lets it run nothing but its own files.
//!
//! ## What an attacker can do who has …
//!
//! * **the network.** Connections and requests, within the limits below. Connections that ask for nothing give way to new
//!   ones, so that they keep nobody out; what has a request in hand is never cut for them.
//! * **Looker's token.** He can send events of his making, under keys that he knows or to named destinations (the id
//!   of a destination has 48 bits, so the whole digest of URL and key is compared before a run goes to one); fill the
//!   store up to `store.max_bytes`, which pushes out history, but by runs that fail only up to a quarter of it; make up
//!   to 4096 destinations; occupy `hub.max_runs` for `hub.run_timeout` where an allowed Looker serves him slowly (give each Looker a token of its own, as each `pintle token` prints, and set
//!   `hub.max_runs_per_token`: then the others keep their places); learn from the form whether a write key is good, and the first words that a data
//!   plane answers to it, so also what else answers POST on pintle's network: set `rudderstack.allowed_origins` where that
//!   matters. Exchange a token that was seen: a new `hub.secret`, the old one in `hub.previous_secrets` until Looker has the
//!   new token, then gone.
//! * **an account on the machine, not the service's.** Nothing of the store: folders are 0700 and files 0600 whatever the
//!   umask is. He reaches loopback: `/metrics`, and the console's login. A browser sends the console's cookie to every port
//!   of one host: on a machine with strangers use the socket, or a proxy with a name of its own.
//! * **a folder that others could write to.** pintle refuses a store's folder that others can write to and that holds links
//!   or other users' files, and follows no link for its lock, its secrets and what it writes. It takes no file for a secret
//!   that belongs to another user, has a second name, or can be written to by others.
//! * **the disk or a backup.** Write keys and events **in clear**: the backlog must be sent with them, and no key that lies
//!   beside them would change that. Encrypt the disk and the backups. The checksums are against accidents, not forgers.
//! * **the name server.** Nothing where downloads are https. A name that resolves to a forbidden address, by itself or
//!   beside others, is refused each time it is resolved, and the addresses that were checked are the ones connected to.
//! * **the admin's browser, from another site.** Nothing: no CORS, the cookie is SameSite=Strict, a login is JSON.
//! * **a title, a name, a row.** No line in the log, no escape on the terminal: what steers it, hides or turns text is
//!   replaced by U+FFFD in listings and in `audit --csv`, and escaped (`\u009b`) in all JSON that a command prints. Only
//!   `events` and `dead export` give stored bytes as they are, and that not to a terminal. What a spreadsheet would take
//!   for a formula gets a `'` in front in `audit --csv`.
//!
//! ## What pintle calls
//!
//! * Downloads: only origins of `looker.allowed_origins`, compared as browsers parse them (scheme, host, port); the list is
//!   empty at first. No user name in a URL; redirects only within the origin, three at most; no `Referer`; one attempt.
//! * Data planes: the URL of the action's settings, or only `rudderstack.allowed_origins` where that is filled. No redirects.
//! * Neither of them ever: link-local, metadata (169.254.0.0/16, fe80::/10, and the clouds' own), multicast, broadcast and
//!   unspecified addresses, also inside IPv6 addresses (mapped, NAT64, 6to4, ISATAP). Private and loopback addresses are
//!   allowed: that is where a Looker or a RudderStack of one's own stands.
//! * `alerts.url`, which only the configuration gives. With `HTTP_PROXY` the proxy resolves names, and has to be careful.
//!
//! ## Where secrets lie
//!
//! * `secret` and `admin-token` in the store's folder are made at the first start where the configuration gives none.
//! * Each secret can come from a file of its own (`hub.secret_file`, `admin.token_file`, `write_key_file`), so that
//!   none has to stand in the configuration.
//! * Their type prints `***`. No secret is printed by `pintle check`, stands in a log line, in a metric or in an error, at
//!   any level; a test greps a busy life at level `trace`. Row values stand in no log line; why a document was refused may
//!   quote it, and is shown by `pintle runs show` alone. A download's address is itself a credential, and is not logged.
//!   A panic is logged with its place, and with its text only where that is a fixed one.
//!
//! ## Limits
//!
//! Memory, queues, bodies, depth and time are bounded, so that no peer can take the process down or slow the others.
//!
//! | limit | default | what a peer sees beyond it |
//! | --- | --- | --- |
//! | connections | `hub.max_connections` = 1024; the admin listener and the socket 1024 each | silent ones are closed for new ones; where all are at work, 503 |
//! | a request's head; a TLS handshake | 15 s | the connection is closed |
//! | between requests, between pieces of a body, an answer not taken | 75 s | the connection is closed |
//! | a request's head | about 64 KiB, 100 headers | 431 |
//! | a request's body | twice `hub.max_attachment_bytes` and 1 MiB; at least 1 KiB/s after 30 s of waiting | a refusal, the connection is closed |
//! | a request beside its attachment | 1 MiB, 100 levels | a refusal with the byte |
//! | a write key; a data plane's URL | 1 KiB; 2 KiB, wherever they are given | a refusal |
//! | an attachment | `hub.max_attachment_bytes` = 1 GiB; 32 in files at once, of one token 16, more wait; the disk keeps `store.min_free` | a refusal that names the key |
//! | a request until it has come in whole | `hub.run_timeout`; a form's 60 s | a refusal |
//! | requests that have not come in whole | 64 MiB of memory in all, of one token half of it, beside 16 KiB of each; more wait 10 s | a refusal: send it again |
//! | forms that ask a data plane | 32, of one token 16, for 2 s | the form says nothing of the settings |
//! | names looked up at once | 16 for downloads, 16 for deliveries, 4 for forms; as many again that were not answered last time; more wait 8 s | the download fails, the delivery is tried again |
//! | requests without a good token | 100 in 10 s, 5 of them logged | 429 |
//! | executes that cannot be read | 5 in 10 s are logged | a refusal each |
//! | runs received at once | `hub.max_runs` = 16, of one token `hub.max_runs_per_token` (0: as many); 500 more wait, and get their places token by token | the last of whoever has the most waiting is told to come again |
//! | a run | `hub.run_timeout` = 2 h | it is ended, nothing of it is kept |
//! | a download's first row, its silence | `looker.first_row_timeout` = 15 m, `looker.idle_timeout` = 60 s | the run fails and says which |
//! | a result | `looker.max_document_bytes` = 100 GB, decompressed; compressed too | the run fails with row, byte and key |
//! | gzip | 250 times its size, after 64 MiB; a sixteenth of it, after 1 MiB | the run fails with the byte |
//! | a row, or another member of the root | `looker.max_row_bytes` = 8 MiB | the run fails with row, byte and key |
//! | nesting; columns; a column's name; pivoted values of a row | 64; 4096; 4 KiB; 500,000 | the run fails and says which |
//! | rows before `fields` | `looker.max_spool_bytes` = 4 GiB; the disk keeps `store.min_free` | the run fails with row, byte and key |
//! | an event | `events.max_event_bytes` = 3.9 MB | a dead letter |
//! | the form's event name; a data plane's URL; a write key | 1 KiB; 2 KiB; 1 KiB | a refusal |
//! | hidden columns; a time zone's name; a download URL | 1024, 64 KiB; 256 B; 8 KiB | a refusal |
//! | instance and webhook ids; titles and URLs of looks | 256; 2000 characters | the rest is left out |
//! | runs that failed and stored nothing, in the list | `store.keep_failed_runs` = 10,000, and 256 | the oldest are forgotten |
//! | destinations that requests make | 4096 | a refusal that says to name it in the configuration |
//! | the store | `store.max_bytes` = 20 GB, `store.min_free` = 1 GB | runs are refused, `/ready` is 503 |
//! | a gateway's answer | 4 KiB are read | |
//! | admin API: calls, listings, watchers at once | 16, 8, 32, and as many again on the socket; more wait 10 s | 503 |
//! | `/metrics` | written once a second, and for a fifth of the time at most; all who ask share it | metrics of just before |
//! | admin API: a body; a login | 8 MiB, an import streams; 64 KiB | a refusal |
//! | wrong logins and admin tokens, by address | 10, then one each 10 s; 512 addresses; a right one always passes | 429 at the login, 503 from the API |
//! | alerts about runs and destinations without a name | 16 in 10 min, posted beside the others | one alert with the number of the others |
//! | sessions of the console | 64; 12 h, or 1 h unused | a login |
//! | a line of the log | 16 KiB | the rest is left out |
//! | lines that senders cause | 20 of a kind in ten seconds, 5 of requests that cannot be read or have no token | the next one says how many were left out (`unlogged_before`) |
//!
//! ## The supply chain
//!
//! Each dependency stands in `Cargo.toml` with its reason; `.deny.toml` says which licences and sources are accepted
//! (`cargo deny check`). The program has one `unsafe` line, which gives memory back to the system. Each target of
//! `src/fuzz.rs` runs as long as `PINTLE_FUZZ_SECONDS` says.
