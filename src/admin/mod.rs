//! What people and scripts see of a running or resting pintle.

pub mod selection;
