//! Metrics for Prometheus. Two processes serve them.
//!
//! The reader has root's privileges and reads the counts (`reader`). Its child, the server, has no capability and speaks
//! HTTP (`server`). A socket pair joins them. The server writes one byte on it, the format. The reader replies with the
//! length of the text, in eight bytes, and the text (`exposition`). It takes nothing else from the server, so that no
//! input from a network reaches a process with a privilege. Each ends when the other has ended.

mod exposition;
mod figures;
mod reader;
mod server;

pub use exposition::Format;
pub use reader::{Reader, Scope, run};
pub use server::serve;

/// The bytes of the length before a text.
const LENGTH: usize = size_of::<u64>();
