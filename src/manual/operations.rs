//! # Operations
//!
//! ## Set up
//!
//! 1. `pintle check` reads the configuration and says what is wrong in it, all of it at once.
//! 2. `pintle doctor` looks at all that it depends on: folder, disk, certificate, Looker, destinations, clock. It changes
//!    nothing.
//! 3. `pintle serve` is the hub. `pintle token` prints what to paste into Looker: Admin, Actions, Add Action Hub.
//!
//! Looker calls only a hub whose certificate it accepts: give `hub.tls_cert_file` and `hub.tls_key_file`, or put a proxy in
//! front and name its address in `hub.public_url`. Downloads are fetched only from `looker.allowed_origins`.
//!
//! ## Look
//!
//! `pintle status` says in one screen whether all is well: backlog, destinations, the last runs, and when the backlog
//! will be gone. `pintle runs` lists what came, `pintle trace ID` tells the story of one delivery, attempt by attempt,
//! and `pintle audit --rows` names each row that did not arrive, and why. The metrics are at `/metrics` of `admin.listen`;
//! what is delivered and what became a dead letter is counted over restarts, for each destination, until a catalog is lost.
//!
//! The log has a line when a run begins, is stored or fails, and is delivered in full: 20 of a kind in ten seconds, and the
//! next one says how many had none (`unlogged_before`); further deliveries have one line together. `pintle runs` lists all;
//! of Looker's runs that failed and stored nothing the last `store.keep_failed_runs`. `pintle_tasks` counts what is under
//! way inside.
//!
//! Lists come newest first and take the memory of a page, however long they are; `--limit N` (`?limit=N` of `GET
//! /api/runs`, `/api/replay` and `/api/dead`; without it all of them, as a stream) ends them early. Runs and webhook ids are
//! found at once. `pintle trace` with a messageId reads what is stored from the newest on: `--since` or `--run` says where
//! to look and makes that quick. A row that became no event is found by its user where its run names the columns that say
//! who a row is about; runs that were stored before pintle kept these names have none.
//!
//! Each error that needs an operator has a code; `pintle explain CODE` says what it means and what to do.
//!
//! ## A gateway is away
//!
//! Nothing has to be done. Runs are accepted, the backlog grows, attempts go on with growing pauses and never end. Mind
//! the space: `store.max_bytes` is where runs are refused. When the gateway is back, pintle begins with one small batch
//! and speeds up; the other destinations of that gateway follow within two seconds. `pintle destinations retry ID` does not
//! wait for the pause to end.
//!
//! A destination that is *held* needs a hand: its key or its address is wrong, or it refuses everything. `pintle
//! destinations list` says which of them. For key and address pintle asks once a minute and goes on by itself.
//! `pintle destinations rekey` gives it another key while everything runs. Where the configuration names the destination,
//! that counts until what the configuration says of it changes; write the new key there too, for a store that is made
//! anew knows nothing else.
//!
//! ## Rows that did not make it
//!
//! A row that can become no event, and an event that the gateway refuses for good, is a dead letter with its reason in
//! the converter's or the gateway's words. `pintle dead list`, `show`, `export`; mended ones go back with `pintle dead
//! requeue ID --event-file F`; those of no use go with `pintle dead drop`.
//!
//! ## Send again
//!
//! `pintle replay` with a selection shows its plan first, with a warning where older values would overwrite newer ones.
//! It goes behind live events, survives a restart, and can be cancelled: then it keeps nothing in the history any more.
//!
//! ## Change and stop
//!
//! SIGHUP (`systemctl reload pintle`) reads the configuration again and changes origins, destinations, limits,
//! certificates and the log's level; a bad file changes nothing and says so. What else changed counts from the next
//! start, and the log names it. A certificate is taken anew when its file changes, without a signal. For 21 days before
//! it expires the log says so once a day, and `pintle doctor` each time.
//!
//! SIGTERM stops: no new runs, those under way get `hub.shutdown_grace`, requests to gateways get their answers. The last
//! line says "drained", or what was left. A second SIGTERM ends at once. Nothing that was acknowledged is lost either way:
//! a run that was cut is one that Looker sends again.
//!
//! ## Under systemd
//!
//! The Debian package brings `pintle.service` and `pintle.socket`, a user of that name, `/etc/pintle/pintle.toml` and
//! `/var/lib/pintle`; it starts nothing by itself. With `pintle.socket` enabled systemd holds the hub's port: what comes
//! while pintle restarts waits in the socket and is answered by the next process, so that Looker sends nothing twice. The
//! address then stands in both, `ListenStream=` and `hub.listen`. Without the socket pintle opens its port itself. To stop
//! it for good, stop both: with the socket alone, the next request starts pintle again.
//!
//! The unit's watchdog is told only while the store can be asked. A wrong configuration (exit code 2) is not started again
//! and again. Offline commands must be run as the folder's owner: `sudo -u pintle pintle status`.
//!
//! ## Behind a proxy
//!
//! `deploy/nginx.conf` is a whole site for nginx, with TLS and a path prefix; a test runs it in Debian's nginx. Whatever
//! the proxy:
//!
//! * `hub.public_url` is what Looker calls, with the prefix. The proxy may take the prefix off or leave it.
//! * Its limit between two bytes of an answer must be longer than 15 s: while rows are read, a newline comes each 15 s.
//!   nginx's 60 s are fine. It must pass them at once; nginx does, because of `X-Accel-Buffering: no`.
//! * Bodies may be large where Looker pushes the rows instead of a download: no limit there, no buffering.
//! * It must not send a request twice: a download works once.
//! * `admin.listen` stays on the machine, reached by an SSH tunnel, or gets a site of its own with TLS.
//!
//! ## Through a proxy
//!
//! Deliveries, downloads and alerts go the way that the environment says: `HTTPS_PROXY` (a tunnel) and `HTTP_PROXY`, with
//! `http://user:password@host:port` where the proxy asks for it, and `NO_PROXY` with the hosts that are reached straight
//! (Looker's, mostly; `127.0.0.1` counts too). The credentials are printed nowhere. A proxy that is down, asks for other
//! credentials before a tunnel or answers 5xx is a trouble that passes; its 407 to a plain request holds the destination.
//!
//! ## Several pintles
//!
//! Two or more with the same `hub.secret` behind a balancer are one hub: any of them takes any token. Nothing is shared
//! otherwise, and nothing has to be. Its limits:
//!
//! * Each drains its own store. What waits on a machine that is lost for good is lost with its disk.
//! * A delivery that comes to both (the first one's answer was lost) is sent by both, with the same message ids.
//! * Order holds within one pintle; rows of two deliveries that went to two of them arrive in any order.
//! * `pintle status`, `runs`, `replay` and the console speak of one of them. The metrics of all are added up by their
//!   `instance`.
//! * `GET /ready` says 503 where a run would be refused (stopping, full): take that one out of the balance.
//!
//! ## Backup
//!
//! The folder `store.path` is all there is, and what is in it is worth something only until it is delivered. So a backup
//! is for the dead letters, the history, and the two secrets `secret` and `admin-token`.
//!
//! * Stop, copy the folder, start: exact. With `pintle.socket` nobody notices a short stop.
//! * An atomic snapshot of the file system (LVM, ZFS, btrfs, a cloud's disk) while pintle runs is what a power cut would
//!   have left, and is opened like that. A plain copy of a running store is no backup: its files are of different moments.
//! * Events alone: `pintle events --since 7d > events.jsonl` while it runs; `pintle import events.jsonl --destination
//!   marketing` makes a run of them elsewhere.
//!
//! After a restore `pintle verify` reads everything. What was delivered after the copy was made is delivered again, with
//! the same message ids. Write keys and events lie in it in clear: keep the copy like the folder itself.
//!
//! ## Upgrade, and back
//!
//! Install the new version and restart; the package does it where pintle runs. The store has a format version: a newer
//! pintle reads older stores. An older pintle refuses a newer format and changes nothing (`pintle explain P0016`):
//! to go back across a change of format, restore the copy that was made before, or let the backlog drain first and begin
//! with a new folder, taking `secret` along. `changes` says which versions changed the format.
//!
//! ## Exit codes
//!
//! | code | means |
//! | --- | --- |
//! | 0 | done; also a listing or a dry run that matches nothing |
//! | 1 | failed, something wrong was found, or a change matched nothing |
//! | 2 | wrong usage or configuration, nothing selected, a change that nobody confirmed |
