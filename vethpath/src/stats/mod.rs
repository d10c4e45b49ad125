//! What each pair has sent and received: data first, rendering in `output`.
