//! ticketgate: the e-mail half of a help desk. Mail in, ticket out, and an answer to "what became of it?".
//!
//! # The picture
//!
//! ```text
//!              doors                      the store                        people and programs
//!   ┌───────────────────────┐   ┌────────────────────────────┐   ┌──────────────────────────────┐
//!   │ smtp (forwarded mail) │──▶│ accept log   (append only) │◀──│ admin (HTTP over a socket)   │
//!   │ pull (mailboxes)      │   │                            │   │                              │
//!   └───────────────────────┘   │   │ tail = spool           │   │ cli   (talks to admin)       │
//!         intake: synced,       │   ▼                        │   └──────────────────────────────┘
//!         then 250              │ filing: parse, decide      │        desk: read, note, close
//!                               │   │                        │
//!                               │   ▼                        │
//!                               │ index (tickets, entries)   │
//!                               └────────────────────────────┘
//! ```
//!
//! # Layers
//!
//! A room imports only from rooms to the right of it; a test reads the imports and fails otherwise.
//!
//! ```text
//! main → cli → gateway → config → smtp pull admin → intake filing desk → relay → accounts → store → net → ticket → mail → clock …
//! ```
//!
//! | room | does | must not know |
//! | --- | --- | --- |
//! | [`mail`] | what mail is: values and pure functions | sockets, files, the time of day, tickets |
//! | [`ticket`] | what a ticket is: values and pure decisions | sockets, files, the store, the time of day |
//! | [`store`] | the data directory: accept log, index, recovery | why it is called |
//! | [`net`] | TLS, PROXY protocol, DNS, sender verification, HTTP, OAuth | tickets, the store |
//! | [`intake`] | the instant at which we take responsibility for a mail | which protocol brought it, what it becomes |
//! | [`filing`] | spool → parse → facts → decide → file | doors, readers, what lies on disk |
//! | [`outbox`] | due mail → quota → relay → settle | header fields, how a relay speaks, what lies on disk |
//! | [`desk`] | what people do with tickets | how mail came, how the admin socket speaks |
//! | [`smtp`] | the SMTP door | tickets, filing, the index |
//! | [`pull`] | mailboxes over IMAP: lease, look, fetch, label | tickets, filing, how the admin socket speaks |
//! | [`relay`] | one attempt to hand a mail on: a server, the servers of domains, a Maildir; what domains permit it | the store's rows, tickets, when to try again |
//! | [`accounts`] | credentials of mailboxes, authorisations, states of connections, orders | IMAP, tickets, HTTP |
//! | [`admin`] | HTTP on the admin socket, metrics and health | what lies on disk, how a decision is made |
//! | [`config`] | one file, all faults at once | what the settings are used for |
//! | [`gateway`] | builds the rooms, starts, reloads, drains | what the rooms do |
//! | [`cli`] | commands; talks to the admin socket | the store, but for `fsck` on a stopped daemon |
//!
//! # The trip of a mail in
//!
//! ```text
//! smtp connection → command → session → data → verify → intake.accept → [record in the log, synced] → 250
//! filing: spool → parse → facts (one look) → decide (pure) → file: one commit with entries, ticket, look-ups
//! ```
//!
//! A pulled mail comes the same way in: its record names the remote message, so the record is its row in the ledger
//! until the filing commit writes the row, and with it the label that is owed on the server.
//!
//! ```text
//! pull: list above the cursor → judge (pure) → fetch → intake.accept → [record + remote message in the log, synced]
//! filing: … → file: one commit with entry, ledger row, label intent → pull: label on the server → intent done
//! ```
//!
//! # The trip of a reply out
//!
//! ```text
//! admin → desk.reply → check → compose (pure) → [record in the log, synced] → 201 or 202
//! filing: spool → which ticket, which recipients may get it (pure) → one commit with entry, outbox row, recipients
//! ```
//!
//! The first mail of a ticket that we open goes the same way. The number is set aside before, since the mail names it;
//! the commit that files the mail opens the ticket.
//!
//! An acknowledgement goes the same way: filing leaves word of the ticket that is owed one, the desk writes it, and
//! the commit that files it takes the word back. So does a report to whoever submitted a mail: the commit that settles
//! the mail leaves word of it.
//!
//! # What a crash can leave, and what the next start does with it
//!
//! | on disk | means | at the next start |
//! | --- | --- | --- |
//! | file in `tmp/` | a large mail was being received, nobody heard 250 | removed |
//! | file in `bodies/`, no record | its record was not written, nobody heard 250 | removed |
//! | half a record at the end of the log | nobody heard 250 | cut off |
//! | whole record behind the `filed` marker | accepted, not filed | filed now |
//! | commit in the log, not in the index | decided and synced, the index lags | applied again |
//! | index that cannot be opened or lies | the engine's fault, or the disk's | moved aside, built anew from snapshot and log |
//! | bad bytes with records behind them | the disk lost something that was acknowledged | skipped, reported, kept for a person |
//! | record of a pulled mail, not filed | it is imported, its label is owed | never fetched again; filed, then labelled |
//! | label intent | the label may stand on the server or not | set again, which changes nothing |
//! | lease on a mailbox's server | we read that mailbox | taken again at once; another gateway waits until it ran out |
//! | cursor behind the ledger | rows were written, the cursor was not | listed again; what has a row is left alone |
//! | credential that notes a refresh | its answer may be lost: the provider may have dropped the old token | refreshed; if refused, a problem that says so |
//! | note of an attempt, mail not filed | parsing it took the process down | after the second time: quarantine |
//! | clock that stands still | mail of that account could not be sent | its mail gets that time back, each once |
//! | mail in the outbox that waits | it was not sent, or the peer's answer was not settled | sent, perhaps again |
//! | quota page newer than what was sent | it was counted before it was sent | counted too much, never too little |
//! | ticket number set aside, no such ticket | the mail that was to open it was never accepted | stays a gap |
//! | acknowledgement that is owed | a ticket was opened, nothing was written | written now, once |
//! | report that is owed | what became of a mail is settled, its sender was not told | written now, once |
//!
//! What is told to the outside is always behind a sync: the 250 behind the record, an entry in the feed behind its
//! commit. A mail that was answered 250 is filed exactly once; one whose 250 got lost on the way is sent again by its
//! sender and recognised by its Message-ID.

pub mod accounts;
pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod desk;
pub mod files;
pub mod filing;
pub mod gateway;
pub mod intake;
pub mod logging;
pub mod mail;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod outbox;
pub mod pull;
pub mod relay;
pub mod shutdown;
pub mod smtp;
pub mod store;
pub mod ticket;
pub mod units;
