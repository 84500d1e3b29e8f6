//! Mails whose bytes are here, on their way into the log: written side by side, and in the log in their order.
//!
//! Must not know: the server, what the rate lets through.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use crate::intake::{Accepting, Arrival, Intake, Refusal};
use crate::mail::envelope::ReturnPath;
use crate::mail::headers::HeaderSection;
use crate::mail::{Address, Envelope, MailId, Origin};
use crate::pull::account::Trouble;
use crate::store::{Body, BodyError, HEAD};

/// How many mails may wait for their sync at once.
const ACCEPTING: usize = 128;
/// How many bytes of them may be in memory.
const HELD: u64 = 8 << 20;
/// How many mails may be on their way into files of their own at once.
const FILLING: usize = 16;

/// Everything of a mail but its bytes.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub uid: u32,
    pub id: MailId,
    pub received_at: Timestamp,
    pub origin: Origin,
    /// The channel whose mailbox it is.
    pub channel: Address,
}

/// Mails between the server and the log. Dropping it takes nothing back.
pub struct Handover {
    intake: Intake,
    filling: VecDeque<(Parcel, Filling)>,
    /// Mails that have their place in the log, in its order. They stand synced in that order too.
    waiting: VecDeque<(u64, Ending)>,
    /// Their bytes in memory.
    held: u64,
    /// What came as a whole, whatever becomes of it.
    pub came: HashSet<u32>,
    /// How many of those were refused for good.
    pub refused: u64,
}

/// The end of a mail on its way into the log.
type Ending = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// The bytes of a mail on their way.
enum Filling {
    /// It is small, and stays in memory.
    Done(Body),
    /// They go into a file, which takes time.
    Running(JoinHandle<Result<Body, BodyError>>),
}

impl Filling {
    fn is_finished(&self) -> bool {
        match self {
            Self::Done(_) => true,
            Self::Running(task) => task.is_finished(),
        }
    }

    async fn end(self) -> Result<Body, BodyError> {
        match self {
            Self::Done(body) => Ok(body),
            Self::Running(task) => task.await.unwrap_or_else(|error| Err(BodyError::Trouble(error.to_string()))),
        }
    }
}

impl Handover {
    pub fn new(intake: Intake) -> Self {
        Self { intake, filling: VecDeque::new(), waiting: VecDeque::new(), held: 0, came: HashSet::new(), refused: 0 }
    }

    /// Takes a mail. An error is about an earlier one, and means that nothing more can be taken.
    pub async fn take(&mut self, parcel: Parcel, bytes: Vec<u8>) -> Result<(), Trouble> {
        let body = self.intake.body(parcel.id);
        self.came.insert(parcel.uid);
        let filling = if body.holds(bytes.len()) {
            Filling::Done(body.hold(bytes))
        } else {
            Filling::Running(tokio::spawn(body.whole(bytes)))
        };
        self.filling.push_back((parcel, filling));
        while self.filling.len() > FILLING || self.filling.front().is_some_and(|(_, filling)| filling.is_finished()) {
            self.first().await?;
        }
        Ok(())
    }

    /// Takes a mail whose bytes are complete already.
    pub async fn take_body(&mut self, parcel: Parcel, body: Body) -> Result<(), Trouble> {
        self.came.insert(parcel.uid);
        self.filled().await?;
        self.begin(parcel, body).await
    }

    /// Takes the note of a mail that is refused.
    pub async fn take_refused(
        &mut self,
        uid: u32,
        begin: impl FnOnce(&Intake) -> Result<Accepting, Refusal>,
    ) -> Result<(), Trouble> {
        self.came.insert(uid);
        self.filled().await?;
        let accepting = begin(&self.intake).map_err(Trouble::Refused)?;
        self.wait_for(accepting, 0).await
    }

    /// Returns once all of them stand synced.
    pub async fn finish(&mut self) -> Result<(), Trouble> {
        self.filled().await?;
        self.intake.hurry();
        while let Some(oldest) = self.forget_oldest() {
            self.settled(oldest.await)?;
        }
        Ok(())
    }

    async fn filled(&mut self) -> Result<(), Trouble> {
        while !self.filling.is_empty() {
            self.first().await?;
        }
        Ok(())
    }

    /// The longest on its way gets its place in the log before any other.
    async fn first(&mut self) -> Result<(), Trouble> {
        let Some((parcel, filling)) = self.filling.pop_front() else { return Ok(()) };
        let body = filling.end().await.map_err(full)?;
        self.begin(parcel, body).await
    }

    async fn begin(&mut self, parcel: Parcel, body: Body) -> Result<(), Trouble> {
        let Parcel { id, received_at, origin, channel, .. } = parcel;
        let (envelope, held) = (envelope(body.head(), channel), body.held());
        match self.intake.begin(Arrival { id, received_at, envelope, origin, body }).await {
            Ok(accepting) => self.wait_for(accepting, held).await,
            Err(refusal) => Err(Trouble::Refused(refusal)),
        }
    }

    /// Lets a mail wait for its sync beside others, and waits for the oldest where there is no room for one more.
    async fn wait_for(&mut self, accepting: Accepting, held: u64) -> Result<(), Trouble> {
        while let Some(done) = self.waiting.front_mut().and_then(|(_, oldest)| oldest.now_or_never()) {
            self.forget_oldest();
            self.settled(done)?;
        }
        while (self.waiting.len() >= ACCEPTING || self.held + held > HELD)
            && let Some(oldest) = self.forget_oldest()
        {
            self.intake.hurry();
            self.settled(oldest.await)?;
        }
        self.held += held;
        self.waiting.push_back((held, Box::pin(accepting.done().map(|done| done.map(drop)))));
        Ok(())
    }

    fn forget_oldest(&mut self) -> Option<Ending> {
        let (held, oldest) = self.waiting.pop_front()?;
        self.held -= held;
        Some(oldest)
    }

    /// A refusal for good has its record; anything else is our own trouble and stops the look.
    fn settled(&mut self, done: Result<(), Refusal>) -> Result<(), Trouble> {
        match done {
            Ok(()) => Ok(()),
            Err(Refusal::Permanent(_)) => {
                self.refused += 1;
                Ok(())
            }
            Err(refusal) => Err(Trouble::Refused(refusal)),
        }
    }
}

/// A mailbox hands mail over without its envelope: it is for the channel whose mailbox it is, and its sender is what
/// the server has noted when it delivered it.
pub fn envelope(head: &[u8], channel: Address) -> Envelope {
    let path = HeaderSection::read(head, HEAD).map_or(ReturnPath::Unknown, |section| ReturnPath::of(&section));
    let mail_from = match path {
        ReturnPath::Known(address) => Some(address),
        ReturnPath::Null | ReturnPath::Unknown => None,
    };
    Envelope { mail_from, rcpt_to: vec![channel] }
}

/// What an error of the disk means for a session.
pub fn full(error: BodyError) -> Trouble {
    Trouble::Refused(match error {
        BodyError::Full => Refusal::Full,
        other => Refusal::Trouble(other.to_string()),
    })
}
