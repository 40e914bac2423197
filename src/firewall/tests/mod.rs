mod failures;
mod golden;
mod kernel;
mod normal;
