//! How workers that write what is owed take turns: after each change of the store, or after trouble.

use std::time::Duration;

use tokio::sync::watch;

use super::DeskError;
use crate::shutdown::Shutdown;
use crate::store::Progress;

/// The wait after trouble.
const PAUSE: Duration = Duration::from_secs(15);

/// Whether there will be another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Next,
    Over,
}

/// Waits for the next turn; `what` waits while there is trouble.
pub(super) async fn next_turn(
    progress: &mut watch::Receiver<Progress>,
    shutdown: &mut Shutdown,
    last: Result<(), DeskError>,
    what: &str,
) -> Turn {
    let wait = match last {
        Ok(()) => None,
        Err(trouble) => {
            tracing::warn!(%trouble, "{what} wait");
            Some(PAUSE)
        }
    };
    tokio::select! {
        changed = progress.changed(), if wait.is_none() => if changed.is_err() { Turn::Over } else { Turn::Next },
        () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => Turn::Next,
        () = shutdown.wait() => Turn::Over,
    }
}
