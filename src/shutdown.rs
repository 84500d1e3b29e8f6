//! How every room learns that the daemon is to stop: one switch that is thrown once.

use tokio::sync::watch;

/// The hand that throws the switch. Dropping it throws the switch as well.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// What a room waits on; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Makes a switch and what waits on it.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Throws the switch: every `Shutdown` made from it ends its wait.
    pub fn shut_down(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once the switch has been thrown.
    pub async fn wait(&mut self) {
        // An error means that the trigger is gone, which is a stop as well.
        let _ = self.0.wait_for(|thrown| *thrown).await;
    }

    /// Whether the switch has been thrown.
    pub fn is_thrown(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
