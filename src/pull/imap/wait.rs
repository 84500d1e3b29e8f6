//! Waiting for news: IDLE (RFC 2177) where it is offered, a NOOP after the wait elsewhere.

use std::time::Duration;

use async_imap::imap_proto::{MailboxDatum, Response, Status};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::wire::told;
use super::{ImapError, Mailbox};
use crate::net::conceal::Hidden;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The server told of new mail.
    News,
    /// The time was over.
    Quiet,
}

impl Mailbox {
    /// Waits for news, at most so long, or until `stop` is ready; not at all where the server has told of some since the
    /// folder was listed. A server that closes the connection meanwhile is an error: it is not news.
    /// Whoever drops this future before its end has to drop the mailbox too.
    pub async fn wait(
        &mut self,
        most: Duration,
        idle: Idle,
        stop: impl Future<Output = ()>,
    ) -> Result<Woken, ImapError> {
        if std::mem::take(&mut self.wire.news) {
            return Ok(Woken::News);
        }
        let mut stop = std::pin::pin!(stop);
        let until = Instant::now() + most;
        if idle == Idle::Never || !self.offers("IDLE") {
            sleep_or(until, stop).await;
            return self.noop().await;
        }
        let tag = self.wire.send("IDLE", "IDLE").await?;
        match self.wire.go_ahead("IDLE", &tag).await {
            Ok(_) => {}
            // It offered what it does not do: then it is asked from time to time.
            Err(ImapError::Refused { .. }) => {
                sleep_or(until, stop).await;
                return self.noop().await;
            }
            Err(other) => return Err(other),
        }
        let mut woken = if self.wire.news { Woken::News } else { Woken::Quiet };
        let hidden = Hidden::default();
        while woken == Woken::Quiet {
            let heard = self.wire.read_any(|response| match response {
                Response::MailboxData(MailboxDatum::Exists(_)) => Ok(Heard::News),
                // Some say with it that it was too much for them, which is to be heeded.
                Response::Data { status: Status::Bye, outcome } => Err(ImapError::Lost(told(outcome, &hidden))),
                Response::Done { .. } => Ok(Heard::End),
                // "* OK Still here" and flag changes are no reason to look.
                _ => Ok(Heard::Nothing),
            });
            tokio::select! {
                () = &mut stop => break,
                heard = timeout_at(until, heard) => match heard {
                    Err(_) => break,
                    Ok(heard) => match heard?? {
                        Heard::News => woken = Woken::News,
                        Heard::Nothing => {}
                        // Some servers end it as they like. Begun anew at once it might end at once, without end.
                        Heard::End => {
                            sleep_or(until, stop).await;
                            return self.noop().await;
                        }
                    },
                },
            }
        }
        self.wire.line("IDLE", "DONE").await?;
        let mut news = false;
        self.wire.finish("IDLE", &tag, &mut |response| news |= tells_of_mail(response)).await?;
        Ok(if news { Woken::News } else { woken })
    }

    /// Gives the server the occasion to tell what has changed.
    pub async fn noop(&mut self) -> Result<Woken, ImapError> {
        let mut news = false;
        self.wire.command("NOOP", "NOOP", |response| news |= tells_of_mail(response)).await?;
        Ok(if news { Woken::News } else { Woken::Quiet })
    }
}

/// What came during IDLE.
enum Heard {
    News,
    Nothing,
    /// The tagged answer.
    End,
}

async fn sleep_or(until: Instant, stop: impl Future<Output = ()>) {
    tokio::select! {
        () = sleep_until(until) => {}
        () = stop => {}
    }
}

/// Whether to use IDLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    IfOffered,
    Never,
}

fn tells_of_mail(response: &Response<'_>) -> bool {
    matches!(response, Response::MailboxData(MailboxDatum::Exists(_)))
}
