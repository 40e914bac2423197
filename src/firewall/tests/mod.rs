mod failures;
mod golden;
pub mod kernel;
mod log;
mod normal;
mod stop;
mod watch;
