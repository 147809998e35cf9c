//! The manual: how pintle is built, what it promises and what it does not, how to run it, and a page for each error code.
//!
//! * [`architecture`]: the way of a row, the rooms, who may call whom.
//! * [`durability`]: what is on the disk when, what is lost when, what may arrive twice.
//! * [`operations`]: from the first start to a night with a dead gateway.
//! * [`security`]: who can reach what, where secrets lie.
//! * [`errors`]: the codes; `pintle explain` prints their pages.
//! * [`contributing`]: how the house is kept, how it is tested, how a change is made.
//! * [`changes`]: what is new in each version, and whether the store's format changed.

pub mod architecture;
pub mod changes;
pub mod contributing;
pub mod durability;
pub mod errors;
pub mod operations;
pub mod security;
