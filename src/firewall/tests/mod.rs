mod failures;
mod golden;
mod kernel;
mod log;
mod normal;
mod watch;
