//! The operator's verbs on a store that nobody serves: find, trace, audit, mend, replay, import; as people and as scripts
//! see them. The same verbs through a server's socket are in `whole_way` and `weather`.

mod absent;
mod audit;
mod fixture;
mod people;
mod redact;
mod scripts;
