//! Identity and permission.

pub mod user;
