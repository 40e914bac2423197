//! The files of the state folder.
