//! Claims about tables as their speaker uses them.

mod against_model;
mod bounds;
mod groups;
mod lab;
mod model;
mod recount;
mod routes;
