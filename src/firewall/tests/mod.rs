mod golden;
mod kernel;
