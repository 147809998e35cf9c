//! # Durability
//!
//! The promise: **what Looker is told is on the disk.** The answer to an execute is sent after the run's events are
//! written and synced. From then on each event is delivered, or is a dead letter with its reason, or waits.
//!
//! At every moment, for each run and in all, `rows = events + dead_rows` and `events = delivered + pending +
//! dead_events`. `pintle audit` shows the counts, `pintle verify` recounts them from the events themselves.
//!
//! ## What is lost when
//!
//! | what happens | what is lost | what may come twice |
//! | --- | --- | --- |
//! | RudderStack is away, for minutes or days | nothing, up to `store.max_bytes`; beyond it runs are refused, and Looker is told | an event whose answer was lost |
//! | pintle is killed, or the machine loses power | nothing that was answered; a run under way is not kept, and Looker gets no success | what was delivered in the last moments before |
//! | the download or the query breaks half-way | nothing: the run is refused as a whole | – |
//! | a write or a sync fails | nothing that was answered; runs that wait for it are answered as failed, and the process ends | such a run, where it reached the disk all the same: the next start finds and delivers it, and whoever sent it again has sent it twice |
//! | the disk is full | nothing that was answered; new runs are refused | – |
//! | part of the store is damaged | what that part held, named by `pintle verify`; the rest goes on | – |
//! | the catalog is lost or damaged, also where only its end is missing after a good stop | pauses, replays, the list of failed runs; it is rebuilt from the segments | events of segments that were not wholly delivered; dropped dead letters come back |
//! | the disk is lost | its backlog | – |
//!
//! ## At least once
//!
//! Delivery is at least once: where an answer is lost, nobody can know whether the gateway stored the batch. Each event
//! has a `messageId` that never changes, over attempts, restarts and a second sending of the same Looker delivery. So
//! RudderStack's deduplication, where it is turned on, removes the second one (on a server of one's own it is off by
//! default, and looks back one hour where it is on).
//!
//! Order is kept within a destination, but for replays, which go behind live events.
//!
//! ## Keeping and giving way
//!
//! Delivered events are kept for `store.keep_delivered` and `store.keep_delivered_bytes`, so that they can be replayed.
//! They give way to new events, oldest first. Events that wait and dead letters never do. At `store.max_bytes`, or when the
//! disk has less than `store.min_free`, new runs are refused.
//!
//! ## More than one machine
//!
//! Several pintles behind a load balancer need the same `hub.secret` and nothing else in common. Each drains its own store,
//! and the backlog of a lost machine is lost with its disk.
