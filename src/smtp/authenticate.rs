//! The driver of an AUTH exchange: reads its lines, lets the mechanism judge, asks a provider about bearer tokens.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::ExposeSecret;
use tokio::time::Instant;
use tracing::{info, warn};

use super::connection::{Connection, End};
use super::line::Frame;
use super::session::Ended;
use super::submission::Submission;
use super::submission::sasl::{self, Exchange, Method, Progress};
use std::sync::Arc;

/// Messages of the client in one exchange; the longest mechanism has three.
const MOST_MESSAGES: usize = 6;

/// What one line of the client says.
enum Answer {
    Message(Vec<u8>),
    Cancelled,
    Unreadable,
}

impl Connection {
    /// Holds the exchange that the session has asked for.
    pub(super) async fn authenticate(&mut self, method: Method) -> Result<(), End> {
        let Some(submission) = self.live.submission.clone() else { return Ok(()) };
        let now = Instant::now();
        let ended = if self.door.peers.may_log_in(self.peer, submission.max_failed_logins, now) {
            self.exchange(method, &submission).await?
        } else {
            Ended::TooMany
        };
        match &ended {
            Ended::Proven(login) => {
                info!(peer = %self.peer, account = login.name, method = method.as_str(), "logged in")
            }
            Ended::TooMany => warn!(peer = %self.peer, "too many logins have failed: the peer has to wait"),
            Ended::Failed | Ended::Cancelled | Ended::Unreadable | Ended::Trouble => {}
        }
        let step = self.session.authenticated(ended, &mut self.out);
        self.note(step);
        self.closing = step.next == super::session::Next::Close;
        Ok(())
    }

    async fn exchange(&mut self, method: Method, submission: &Arc<Submission>) -> Result<Ended, End> {
        let initial = match self.session.take_initial() {
            None => None,
            Some(text) => match decode(text.expose_secret().as_bytes()) {
                Answer::Message(message) => Some(message),
                Answer::Cancelled => return Ok(Ended::Cancelled),
                Answer::Unreadable => return Ok(Ended::Unreadable),
            },
        };
        match method {
            Method::OauthBearer => self.bearer(initial, submission).await,
            Method::Plain | Method::Login | Method::ScramSha256 => self.password(method, initial, submission).await,
        }
    }

    async fn password(
        &mut self,
        method: Method,
        mut message: Option<Vec<u8>>,
        submission: &Arc<Submission>,
    ) -> Result<Ended, End> {
        let Some(mut exchange) = Exchange::begin(method, &submission.logins) else { return Ok(Ended::Trouble) };
        for _ in 0..MOST_MESSAGES {
            // Deriving keys takes milliseconds, which other connections must not wait for.
            let step = tokio::task::spawn_blocking(move || {
                let progress = exchange.step(message.as_deref());
                (exchange, progress)
            });
            let Ok((back, progress)) = step.await else { return Ok(Ended::Trouble) };
            exchange = back;
            match progress {
                Progress::Proven(login) => return Ok(Ended::Proven(login)),
                Progress::Challenge(challenge) => match self.ask(&challenge).await? {
                    Answer::Message(answer) => message = Some(answer),
                    Answer::Cancelled => return Ok(Ended::Cancelled),
                    Answer::Unreadable => return Ok(Ended::Unreadable),
                },
                Progress::Bearer { .. } | Progress::Failed => return Ok(self.failed(method)),
            }
        }
        Ok(self.failed(method))
    }

    /// Counts a login that has failed.
    fn failed(&self, method: Method) -> Ended {
        self.door.peers.login_failed(self.peer, Instant::now());
        warn!(peer = %self.peer, method = method.as_str(), "a login failed");
        Ended::Failed
    }

    async fn bearer(&mut self, initial: Option<Vec<u8>>, submission: &Arc<Submission>) -> Result<Ended, End> {
        let message = match initial {
            Some(message) => message,
            None => match self.ask(b"").await? {
                Answer::Message(message) => message,
                Answer::Cancelled => return Ok(Ended::Cancelled),
                Answer::Unreadable => return Ok(Ended::Unreadable),
            },
        };
        let Progress::Bearer { name, token } = sasl::bearer(&message) else {
            return Ok(self.failed(Method::OauthBearer));
        };
        match submission.look_up(&name, token).await {
            Ok(Some(login)) => return Ok(Ended::Proven(login)),
            Ok(None) => {}
            Err(why) => {
                warn!(peer = %self.peer, why, "a bearer token could not be looked up");
                return Ok(Ended::Trouble);
            }
        }
        // Counted before it is told: whoever hangs up or gives up now has had the provider asked all the same.
        let failed = self.failed(Method::OauthBearer);
        // RFC 7628 section 3.2.2: the failure is told as a challenge, which the client answers with one octet.
        match self.ask(br#"{"status":"invalid_token"}"#).await? {
            Answer::Cancelled => Ok(Ended::Cancelled),
            Answer::Message(_) | Answer::Unreadable => Ok(failed),
        }
    }

    /// Sends a challenge and reads the answer to it.
    async fn ask(&mut self, challenge: &[u8]) -> Result<Answer, End> {
        self.out.add_bare(format_args!("334 {}", BASE64_STANDARD.encode(challenge)));
        let since = Instant::now();
        loop {
            match self.next_line() {
                Frame::Line(length) => {
                    let answer = decode(&self.input.waiting()[..length]);
                    self.input.consume(length + 2);
                    return Ok(answer);
                }
                Frame::Fault(_) => return Ok(Answer::Unreadable),
                Frame::Incomplete { drop: 0 } => self.wait_for_octets(since).await?,
                Frame::Incomplete { drop } => self.input.consume(drop),
            }
        }
    }
}

/// A message in base 64; `=` stands for an empty one, `*` gives up (RFC 4954 section 4).
fn decode(text: &[u8]) -> Answer {
    match text {
        b"*" => Answer::Cancelled,
        b"=" => Answer::Message(Vec::new()),
        _ => BASE64_STANDARD.decode(text).map_or(Answer::Unreadable, Answer::Message),
    }
}
