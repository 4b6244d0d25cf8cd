//! The server over real sockets: what clients get, and what attacks get.

mod api;
mod bodies;
mod connections;
mod images;
mod load;
mod names;
mod support;
