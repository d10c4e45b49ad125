//! Output of `bench`: text, JSON, a page, and the comparison with a former run.

mod compare;
mod document;
mod html;
mod text;

pub use compare::compare;
pub use document::Document;
pub use html::html;
pub use text::{no_progress, progress, progress_line, text, warnings};
