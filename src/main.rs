//! The `ticketgate` command.

fn main() {}
