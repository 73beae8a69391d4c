//! Whole speakers that talk over pipes in virtual time.

mod bounds;
mod configs;
mod convergence;
mod isolation;
mod monitor;
mod pairs;
mod reloads;
mod restarts;
mod world;
