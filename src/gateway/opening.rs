//! Opening the store, which may take a while, and telling what was found.

use std::time::Duration;

use sd_notify::NotifyState;

use super::{GatewayError, signals};
use crate::clock::Clock;
use crate::config::Config;
use crate::store::{Claim, OpenReport, Store, fsck};

/// While the store is being opened, systemd and the log hear of it this often.
const STILL_OPENING: Duration = Duration::from_secs(10);

/// Takes the data directory for this process alone. It comes before the listeners: whoever starts a second daemon by
/// mistake has to hear who holds the directory, not that a port is taken.
pub async fn claim(config: &Config, clock: &Clock) -> Result<Claim, GatewayError> {
    let (dir, now) = (config.server.data_dir.clone(), clock.now());
    if let Some((uid, _)) = fsck::other_owner(&dir) {
        let dir = dir.display();
        tracing::warn!(%dir, uid, "the data directory is another user's, who cannot change what root makes there");
    }
    let claimed = tokio::task::spawn_blocking(move || Claim::take(&dir, now)).await;
    Ok(claimed.map_err(|trouble| GatewayError::Broken(trouble.to_string()))??)
}

/// Opening may take long when the index is built anew, so it does not run on a thread of the runtime, and systemd is
/// told to wait for as long as it runs.
pub async fn open(claim: Claim, config: &Config, clock: &Clock) -> Result<Store, GatewayError> {
    let (store, clock) = (config.store.clone(), clock.clone());
    let mut opening = tokio::task::spawn_blocking(move || claim.open(&store, clock));
    loop {
        match tokio::time::timeout(STILL_OPENING, &mut opening).await {
            Ok(opened) => {
                let (store, report) = opened.map_err(|trouble| GatewayError::Broken(trouble.to_string()))??;
                say(&report);
                return Ok(store);
            }
            Err(_) => {
                let more = (STILL_OPENING * 4).as_micros().try_into().unwrap_or(u32::MAX);
                signals::tell(&[NotifyState::ExtendTimeoutUsec(more), NotifyState::Status("opening the store")]);
                tracing::info!("the store is still being opened");
            }
        }
    }
}

/// Tells what the store found when it was opened; silence means that all was as it was left.
fn say(report: &OpenReport) {
    if let Some(why) = &report.rebuilt_because {
        tracing::warn!(%why, "the index was built anew from the log");
    }
    for span in &report.damaged_spans {
        tracing::error!(?span, "a stretch of the log cannot be read; run `ticketgate fsck` and look at the disk");
    }
    for segment in &report.missing_segments {
        tracing::error!(segment, "a segment of the log is gone, with the mail that waited in it for filing");
    }
    if report.log_behind {
        tracing::error!("the log has lost its last records; the index has them, and a new segment was begun: run fsck");
    }
    if report.set_aside > 0 {
        tracing::error!(
            files = report.set_aside,
            "files of mails whose records are lost were moved to the directory `lost`: look into each"
        );
    }
    if report.cut_bytes > 0 {
        tracing::info!(bytes = report.cut_bytes, "cut off a half-written record that nobody was told about");
    }
    if report.redone > 0 || report.spooled > 0 {
        tracing::info!(commits = report.redone, mails = report.spooled, "completing what the last run left");
    }
}
