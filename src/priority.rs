//! Which threads go first where processors are short.

/// How much threads that nobody waits for step back (nice(2)).
const NICENESS: i32 = 5;

/// Lets other threads go before this one from now on: a sender waits for its 250, and nobody as impatiently for a ticket.
/// Linux counts the priority by thread (setpriority(2)); that it is refused is no fault.
pub fn step_back() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}
