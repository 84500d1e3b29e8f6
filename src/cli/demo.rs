//! `ticketgate demo`: the daemon in a temporary directory, real mail sent to it over SMTP, what became of it, and an
//! answer on its way out.
//!
//! It uses the same doors as everybody: a real SMTP connection in, the admin socket out.

mod answer;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mail_send::SmtpClient;
use mail_send::smtp::message::Parameters;
use tokio::runtime::Runtime;

use super::CliError;
use super::args::Reach;
use super::client::Client;
use super::output::{Output, harmless};
use super::tickets::show_ticket;
use crate::admin::entry::EntryJson;
use crate::admin::types::{EntryPage, TicketDetail};
use crate::gateway::{self, Gateway};
use crate::units;

/// How long the demo waits for its mails to be filed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one SMTP command may take.
const SMTP_WAIT: Duration = Duration::from_secs(10);

/// One mail of the demo.
struct Mail {
    /// What the operator reads about it.
    about: &'static str,
    from: &'static str,
    text: &'static str,
}

/// Comes from a stranger, without a reference, to the signed address of the ticket.
const BY_TOKEN: Mail = Mail {
    about: "",
    from: "boss@customer.example",
    text: "From: Ann's Boss <boss@customer.example>\r\nTo: support@localhost\r\nSubject: fire?\r\n\
           Message-ID: <fire-3@customer.example>\r\n\r\nAnn gave me this address. Is all well?\r\n",
};

/// Comes twice: forwarders that did not hear our answer send a mail again.
const QUESTION: &str = "From: Ann Customer <ann@customer.example>\r\nTo: support@localhost\r\nSubject: The printer on the second \
    floor is on fire\r\nMessage-ID: <fire-1@customer.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\
    MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=demo\r\n\r\n--demo\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\r\nHello,\r\n\r\nit says \"PC LOAD LETTER\". What does that \
    mean?\r\n\r\nAnn\r\n--demo\r\nContent-Type: text/csv; name=smoke.csv\r\n\
    Content-Disposition: attachment; filename=smoke.csv\r\n\r\nminute,smoke\r\n1,little\r\n2,much\r\n\
    --demo--\r\n";

const MAILS: [Mail; 4] = [
    Mail { about: "a question from a customer", from: "ann@customer.example", text: QUESTION },
    Mail {
        about: "her follow-up, which refers to it",
        from: "ann@customer.example",
        text: "From: Ann Customer <ann@customer.example>\r\nTo: support@localhost\r\nSubject: Re: The printer on the \
               second floor is on fire\r\nMessage-ID: <fire-2@customer.example>\r\n\
               In-Reply-To: <fire-1@customer.example>\r\nReferences: <fire-1@customer.example>\r\n\
               Date: Sun, 22 Nov 2026 10:05:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
               It is out now. I had not pressed \"resume\".\r\n",
    },
    Mail {
        about: "the question once more, as a forwarder that retries would send it",
        from: "ann@customer.example",
        text: QUESTION,
    },
    Mail {
        about: "a broken one, without a From field",
        from: "somebody@elsewhere.example",
        text: "To: support@localhost\r\nSubject: no sender\r\nMessage-ID: <bad-1@elsewhere.example>\r\n\r\nWho am I?\r\n",
    },
];

/// Whether the daemon of the demo goes on running afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    Stay,
    Stop,
}

/// Runs the demo.
pub fn demo(runtime: &Runtime, afterwards: Afterwards) -> Result<(), CliError> {
    let mut out = Output::new(false);
    let dir = make_directory()?;
    let ended = in_directory(runtime, &dir, afterwards, &mut out);
    let _ = std::fs::remove_dir_all(&dir);
    ended
}

fn in_directory(runtime: &Runtime, dir: &Path, afterwards: Afterwards, out: &mut Output) -> Result<(), CliError> {
    let failed = |trouble: gateway::GatewayError| CliError::new(trouble, "free some space or memory and try again");
    let gateway = runtime.block_on(gateway::start(gateway::demo_config(dir))).map_err(failed)?;
    let mut shown = show(runtime, &gateway, &dir.join("data/outbound"), out);
    if shown.is_ok() && afterwards == Afterwards::Stay {
        shown = stay(runtime, &gateway, out);
    }
    let stopped = runtime.block_on(gateway.stop()).map_err(failed);
    shown.and(stopped)
}

fn stay(runtime: &Runtime, gateway: &Gateway, out: &mut Output) -> Result<(), CliError> {
    let (smtp, socket) = (smtp_address(gateway)?, gateway.socket().display().to_string());
    out.line(&format!("\nThe daemon stays: SMTP on {smtp}, admin socket {socket}. Ctrl-C ends it."))?;
    runtime.block_on(gateway::wait_for_interrupt());
    Ok(())
}

fn show(runtime: &Runtime, gateway: &Gateway, outbound: &Path, out: &mut Output) -> Result<(), CliError> {
    let smtp = smtp_address(gateway)?;
    out.line(&format!("ticketgate listens for SMTP on {smtp}. Four mails go to support@localhost:\n"))?;
    for (number, mail) in MAILS.iter().enumerate() {
        let answer = runtime.block_on(send(smtp, mail, "support@localhost"))?;
        out.line(&format!("  {}. {}\n     {answer}", number + 1, mail.about))?;
    }
    let reach = Reach::socket(gateway.socket());
    let client = Client::reach(&reach)?;
    let entries = wait_for(&client, MAILS.len())?;
    out.line("\nWhat became of them (as \"ticketgate export\" tells it):\n")?;
    for entry in &entries {
        out.line(&format!("  {}", one_line(entry)))?;
    }
    let number = entries.iter().find_map(|entry| entry.ticket).unwrap_or(1);
    let detail: TicketDetail = client.get(&format!("/v1/tickets/{number}"))?;
    out.line(&format!("\nThe ticket (as \"ticketgate tickets show {number}\" tells it):\n"))?;
    show_ticket(out, &detail)?;
    reply_by_token(runtime, smtp, &client, &detail, out)?;
    answer::show(&client, number, outbound, out)?;
    out.line(
        "\nTry next:\n  ticketgate demo --stay        the same, and the daemon goes on running\n  \
         ticketgate run                the daemon, on 127.0.0.1:2525\n  \
         ticketgate tickets list       what came in\n  \
         ticketgate tickets reply 1 --text Hello\n                                an answer\n  \
         ticketgate explain fire-1@customer.example\n                                why that mail went where it went",
    )
}

/// Shows that mail to the signed reply address finds its ticket without any reference.
fn reply_by_token(
    runtime: &Runtime,
    smtp: SocketAddr,
    client: &Client,
    detail: &TicketDetail,
    out: &mut Output,
) -> Result<(), CliError> {
    let Some(address) = &detail.reply_address else { return Ok(()) };
    out.line(&format!("\nReplies to the ticket come back to {address}.\nA mail to it from somebody else:"))?;
    let answer = runtime.block_on(send(smtp, &BY_TOKEN, address))?;
    let entries = wait_for(client, MAILS.len() + 1)?;
    out.line(&format!("     {answer}"))?;
    entries.last().map_or(Ok(()), |entry| out.line(&format!("  {}", one_line(entry))))
}

fn one_line(entry: &EntryJson) -> String {
    let ticket = entry.ticket.map_or_else(|| "no ticket".to_owned(), |number| format!("ticket {number}"));
    let why = entry.reason.as_ref().or(entry.matched_by.as_ref()).map_or_else(String::new, |why| format!(" ({why})"));
    harmless(&format!("{:<11} {ticket:<10} {}{why}", entry.filing, entry.subject), false)
}

async fn send(smtp: SocketAddr, mail: &Mail, rcpt: &str) -> Result<String, CliError> {
    let said = |trouble: mail_send::Error| CliError::new(format!("SMTP to {smtp}: {trouble}"), "look at the log above");
    let mut client = SmtpClient::connect(smtp, SMTP_WAIT).await.map_err(said)?;
    client.read().await.map_err(said)?;
    client.ehlo("demo.localhost").await.map_err(said)?;
    client.mail_from(mail.from, &Parameters::new()).await.map_err(said)?;
    client.rcpt_to(rcpt, &Parameters::new()).await.map_err(said)?;
    // The client ends the data with a line break of its own.
    let body = mail.text.strip_suffix("\r\n").unwrap_or(mail.text);
    let answer = match client.data(body).await {
        Ok(reply) | Err(mail_send::Error::UnexpectedReply(reply)) => {
            let [a, b, c] = reply.esc;
            format!("{} {a}.{b}.{c} {}", reply.code, reply.message)
        }
        Err(trouble) => return Err(said(trouble)),
    };
    client.quit().await.map_err(said)?;
    Ok(answer)
}

/// Waits until so many entries are in the feed.
fn wait_for(client: &Client, count: usize) -> Result<Vec<EntryJson>, CliError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page: EntryPage = client.get("/v1/entries?after=0&limit=100")?;
        if page.entries.len() >= count {
            return Ok(page.entries);
        }
        if Instant::now() > deadline {
            let said = format!(
                "of {count} mails only {} filed in {PATIENCE:?}",
                units::count(page.entries.len(), "was", "were")
            );
            return Err(CliError::new(said, "look at the log above"));
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn smtp_address(gateway: &Gateway) -> Result<SocketAddr, CliError> {
    let first = gateway.smtp_addresses().first().copied();
    first.ok_or_else(|| CliError::new("there is no SMTP listener", "report this"))
}

/// A directory of our own that nobody else can look into.
fn make_directory() -> Result<PathBuf, CliError> {
    let dir = std::env::temp_dir().join(format!("ticketgate-demo-{}", std::process::id()));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
    made.map_err(|trouble| {
        CliError::new(format!("{}: {trouble}", dir.display()), "set TMPDIR to a directory of yours")
    })?;
    Ok(dir)
}
