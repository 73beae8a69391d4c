//! Whole speakers that talk over pipes in virtual time.

mod configs;
mod isolation;
mod pairs;
mod restarts;
mod world;
