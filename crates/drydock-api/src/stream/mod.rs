//! Streams to the node.
