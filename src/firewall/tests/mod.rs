mod failures;
mod golden;
mod kernel;
