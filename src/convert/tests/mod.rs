//! Tests of the room as a whole: the golden cases, the rules of rows and of documents, and cuts at every place.

mod documents;
mod fuzz;
mod golden;
mod pieces;
mod rows;
mod speed;
pub(super) mod support;
