//! `ticketgate export`: every entry as a JSON line, and the new ones as they come.

use super::CliError;
use super::client::{Client, More};
use super::feed::Feed;
use super::output::Output;
use crate::admin::types::EntryPage;

pub(super) fn export(client: &Client, out: &mut Output, after: u64, follow: bool) -> Result<(), CliError> {
    let mut next = drain(client, out, after)?;
    if !follow {
        return Ok(());
    }
    // The feed only tells that something is new; what it is comes from the entries, so that nothing is missed or told
    // twice whatever the feed says.
    loop {
        let mut feed = Feed::default();
        let mut news = false;
        client.stream(&format!("/v1/events?after={next}"), |bytes| {
            news |= feed.take(bytes) > 0;
            Ok(if news { More::No } else { More::Yes })
        })?;
        if !news {
            return Err(CliError::new("the daemon has stopped", "start the export again once it runs"));
        }
        next = drain(client, out, next)?.max(feed.last());
    }
}

/// Prints everything behind `after`; returns where the next export begins.
fn drain(client: &Client, out: &mut Output, mut after: u64) -> Result<u64, CliError> {
    loop {
        let page: EntryPage = client.get(&format!("/v1/entries?after={after}&limit=200"))?;
        page.entries.iter().try_for_each(|entry| out.json_line(entry))?;
        out.flush()?;
        if page.next == after {
            return Ok(after);
        }
        after = page.next;
    }
}
