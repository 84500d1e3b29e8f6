//! Mail that came and went between two looks: nobody here has seen it, and only the numbers tell.
//!
//! A server gives each mail a higher number (UID) than the one before, and tells the next one (UIDNEXT). A number that
//! was given out, and under which neither a listing nor the ledger knows a mail, belonged to a mail that left before it
//! could be seen: somebody deleted it or moved it away. Servers may leave numbers out (RFC 3501 section 2.3.1.1), so
//! the count says "at most so many", and nothing depends on it. Must not know: how rows are written.

use crate::pull::account::{Session, Task, Trouble};

impl Task {
    /// Counts the numbers under which nobody has seen a mail. When this is called every mail that was listed has its row
    /// in the ledger. `before` is the cursor of before the look, `next` the number that the server had told to be the next
    /// one before it listed the folder, and `highest` the highest that it listed.
    pub(super) async fn count_vanished(
        &self,
        session: &mut Session,
        before: u32,
        next: u32,
        highest: u32,
    ) -> Result<(), Trouble> {
        // A row of an older version begins to count where its last look ended.
        let from = if session.row.counted_to == 0 { before } else { session.row.counted_to };
        let top = highest.max(next.saturating_sub(1)).max(from);
        session.row.counted_to = top;
        if top == from {
            return Ok(());
        }
        let rows = self.rows_above(session, from.saturating_add(1)).await?;
        let known = rows.iter().take_while(|row| row.uid <= top).count() as u64;
        let vanished = u64::from(top - from).saturating_sub(known);
        session.row.vanished = session.row.vanished.saturating_add(vanished);
        // Without anything to tell it is written with the next change.
        if vanished > 0 {
            session.row = self.keep(session.row.clone(), Vec::new()).await?;
            let channel = self.source.channel.to_string();
            tracing::info!(channel, at_most = vanished, "mail may have come and gone between two looks");
            self.pull.metrics.vanished(&channel, vanished);
        }
        Ok(())
    }
}
