//! The JSON endpoint on a unix socket, and its client.
