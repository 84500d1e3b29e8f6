//! The kind `maildir`: mail goes into a directory, to nobody (R13).
//!
//! Each file is one attempt: `Return-Path` and a `Delivered-To` for each recipient in front, as a delivery agent puts
//! them there (RFC 5321 section 4.4), then the mail's own bytes. A file appears in `new/` whole and synced, or not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::job::{Beyond, RecipientOutcome, Reply, Via};
use super::server::{Parcel, Sent};
use crate::clock::Clock;

/// One Maildir; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Maildir {
    path: PathBuf,
    clock: Clock,
    /// Tells apart what is delivered in the same second.
    count: Arc<AtomicU64>,
}

impl Maildir {
    pub fn new(path: PathBuf, clock: Clock) -> Self {
        Self { path, clock, count: Arc::default() }
    }

    pub async fn deliver(&self, parcel: Parcel<'_>) -> Sent {
        let (this, job, mut head) = (self.clone(), parcel.job.clone(), trace(parcel));
        head.extend_from_slice(parcel.front);
        let written = tokio::task::spawn_blocking(move || this.write(&job.id, &head, &job.bytes)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        match written {
            Ok(name) => {
                let said = format!("kept as {name}");
                let reply = Reply::new(250, Some("2.0.0"), &said);
                let path = self.path.display().to_string();
                let transport = Some(Via { host: path.clone(), said: path });
                Sent { transport, beyond: Beyond::Nothing, ..Sent::all(parcel, RecipientOutcome::Relayed(reply)) }
            }
            Err(error) => {
                let said = format!("{}: {error}", self.path.display());
                Sent::delayed(parcel, Reply::trouble("4.3.0", &said))
            }
        }
    }

    /// Writes one file and syncs it, its place and its directory. Blocks on the disk.
    fn write(&self, id: &str, head: &[u8], mail: &[u8]) -> io::Result<String> {
        let (tmp, new) = (self.path.join("tmp"), self.path.join("new"));
        for folder in [&tmp, &new, &self.path.join("cur")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let seconds = self.clock.now().as_second();
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let unique: String = id.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        let name = format!("{seconds}.P{}Q{count}.{unique}", std::process::id());
        let written = tmp.join(&name);
        let kept = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&written)?;
            file.write_all(head)?;
            file.write_all(mail)?;
            file.sync_all()?;
            fs::rename(&written, new.join(&name))?;
            sync_folder(&new)
        })();
        if kept.is_err() {
            let _ = fs::remove_file(&written);
        }
        kept.map(|()| name)
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The envelope as trace fields.
fn trace(parcel: Parcel<'_>) -> Vec<u8> {
    let sender = parcel.job.sender.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut fields = format!("Return-Path: <{sender}>\r\n");
    for recipient in &parcel.job.recipients {
        fields.push_str(&format!("Delivered-To: {}\r\n", recipient.address));
    }
    fields.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mail::Address;
    use crate::relay::body::nature;
    use crate::relay::job::{Job, JobRecipient};

    fn job(bytes: &[u8]) -> Job {
        let recipient = |text: &str| JobRecipient { address: Address::parse(text).unwrap(), notify: None, orcpt: None };
        Job {
            id: "../01J".into(),
            sender: Some(Address::parse("a@b.example").unwrap()),
            recipients: vec![recipient("c@d.example"), recipient("e@f.example")],
            bytes: Arc::from(bytes),
            smtputf8: false,
            eight_bit: false,
            ret: None,
            envid: None,
            account: None,
        }
    }

    #[tokio::test]
    async fn a_file_holds_the_envelope_and_the_exact_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let maildir = Maildir::new(dir.path().join("out"), Clock::from_fn(|| jiff::Timestamp::UNIX_EPOCH));
        let mail = b"Subject: x\r\n\r\n.\r\nbare\nand\r\0\xff no end";
        let job = job(mail);
        let sent = maildir.deliver(Parcel { job: &job, front: b"Front: y\r\n", nature: nature(mail) }).await;
        assert!(sent.recipients.iter().all(|outcome| outcome.as_str() == "relayed"), "{sent:?}");
        let files: Vec<_> = fs::read_dir(dir.path().join("out/new")).unwrap().map(|file| file.unwrap()).collect();
        assert_eq!(files.len(), 1);
        assert!(files[0].file_name().to_string_lossy().ends_with(".01J"));
        let mut want =
            b"Return-Path: <a@b.example>\r\nDelivered-To: c@d.example\r\nDelivered-To: e@f.example\r\nFront: y\r\n"
                .to_vec();
        want.extend_from_slice(mail);
        assert_eq!(fs::read(files[0].path()).unwrap(), want);
        assert_eq!(fs::read_dir(dir.path().join("out/tmp")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_disk_that_does_not_take_it_delays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("out"), "a file").unwrap();
        let maildir = Maildir::new(dir.path().join("out"), Clock::from_fn(|| jiff::Timestamp::UNIX_EPOCH));
        let job = job(b"x");
        let sent = maildir.deliver(Parcel { job: &job, front: b"", nature: nature(b"x") }).await;
        assert!(sent.recipients.iter().all(|outcome| outcome.as_str() == "delayed"), "{sent:?}");
    }
}
