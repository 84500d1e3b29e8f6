//! How the daemon does, and what to do where it does not do well.

use axum::extract::State;
use axum::response::Json;
use jiff::Timestamp;

use super::credential::warning;
use super::problem::Problem;
use super::types::{ChannelJson, ChannelList, ListenerJson, ProblemJson, SpoolJson, Status, StoreJson};
use super::{Admin, blocking, mailbox_status, outbox_status, relays};
use crate::accounts::{Connection, State as Condition};
use crate::mail::Address;
use crate::store::Stats;
use crate::ticket::Directory;
use crate::units::{count, rough_bytes, show_duration};

/// A mail that waits longer than this for filing is a problem.
const LATE: std::time::Duration = std::time::Duration::from_secs(300);

#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(admin): State<Admin>) -> Result<Json<Status>, Problem> {
    let this = admin.clone();
    let channels = admin.accounts.setup();
    let channels = channels.accounts.iter().map(|account| &account.channel);
    let connections: Vec<Connection> = channels.filter_map(|channel| admin.accounts.connection(channel)).collect();
    let read = move || {
        let mailboxes = mailbox_status::mailboxes(&this.store, connections)?;
        Ok((this.store.stats(), this.desk.brakes()?, this.store.default_channel()?, relays::all(&this)?, mailboxes))
    };
    let (stats, brakes, chosen, relays, mailboxes) = blocking(read).await?;
    let board = admin.board.now();
    let directory = admin.directory.load();
    let mut problems = problems(&stats, room(&admin), admin.about.low_water_bytes, admin.clock.now());
    problems.extend(admin.upkeep.problems(admin.clock.now(), admin.accounts.setup().config.warn_before));
    problems.extend(connection_problems(admin.accounts.connections()));
    problems.extend(outbox_status::problems(&board, &brakes, admin.clock.now()));
    problems.extend(relays::problems(&relays));
    problems.extend(credential_warnings(&admin));
    problems.extend(chosen.and_then(|chosen| default_gone(&chosen, &directory)));
    let listeners = admin.about.listeners.iter();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        hostname: admin.about.hostname.clone(),
        pid: std::process::id(),
        started_at: admin.about.started_at.to_string(),
        ready: not_ready(&admin, stats.free_bytes).is_none(),
        channels: directory.channels().len() as u64,
        default_channel: directory.default_channel().map(|channel| channel.address.to_string()),
        listeners: listeners
            .map(|(name, address)| ListenerJson { name: name.clone(), address: address.to_string() })
            .collect(),
        spool: SpoolJson {
            mails: stats.spool.depth,
            bytes: stats.spool.bytes,
            oldest_received_at: stats.spool.oldest.map(|at| at.to_string()),
        },
        outbox: outbox_status::status(&board, brakes.len()),
        store: StoreJson {
            tickets: stats.tickets,
            seq: stats.seq,
            log_bytes: stats.log_bytes,
            index_bytes: stats.index_bytes,
            free_bytes: stats.free_bytes,
            segments: stats.segments,
            last_flush: stats.last_flush.map(|at| at.to_string()),
            damaged_records: stats.damaged,
        },
        mailboxes,
        problems,
    }))
}

#[utoipa::path(get, path = "/v1/channels", responses((status = 200, body = ChannelList)))]
pub(super) async fn channels(State(admin): State<Admin>) -> Json<ChannelList> {
    let directory = admin.directory.load();
    let shown = directory.channels().iter().map(|channel| ChannelJson::of(channel, &directory, &admin.accounts));
    let channels = shown.collect();
    Json(ChannelList { channels })
}

/// Why no mail is accepted now, if none is.
pub(super) fn not_ready(admin: &Admin, free_bytes: u64) -> Option<String> {
    if admin.store.watch().borrow().broken {
        return Some("the store has stopped after an error; the daemon has to be started again".into());
    }
    if admin.shutdown.is_thrown() {
        return Some("the daemon is stopping".into());
    }
    let low = admin.about.low_water_bytes;
    let advice = format!("mail is accepted again well above {}", rough_bytes(low));
    (!admin.store.has_room(0)).then(|| format!("the disk is low: {} free, {advice}", rough_bytes(free_bytes)))
}

/// Whether mail finds room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Low,
}

/// What the store says, so that readiness and the list of problems tell the same.
fn room(admin: &Admin) -> Room {
    if admin.store.has_room(0) { Room::Enough } else { Room::Low }
}

/// The default channel that somebody chose may have left the configuration since.
fn default_gone(chosen: &str, directory: &Directory) -> Option<ProblemJson> {
    if directory.by_address(chosen).is_some() {
        return None;
    }
    let instead = directory.default_channel().map_or("none".into(), |channel| channel.address.to_string());
    Some(ProblemJson {
        code: "default_channel_gone".into(),
        said: format!("{chosen} was made the default channel and is no longer configured; {instead} is it meanwhile"),
        action: "choose one with `ticketgate channels default ADDRESS`, or configure that one again".into(),
    })
}

/// What is wrong with mailboxes, each with its address.
fn connection_problems(connections: Vec<Connection>) -> Vec<ProblemJson> {
    let of = |connection: Connection| match connection.state {
        Condition::Problem(problem) => Some(ProblemJson {
            code: problem.cause.code().into(),
            said: format!("{}: {}", connection.channel, problem.said),
            action: problem.action_for(&connection.channel),
        }),
        _ => None,
    };
    connections.into_iter().filter_map(of).collect()
}

/// Which credentials are going to die soon.
fn credential_warnings(admin: &Admin) -> Vec<ProblemJson> {
    let setup = admin.accounts.setup();
    let of = |channel: &Address| {
        let ends = admin.accounts.credential(channel).map(|shown| shown.warnings).unwrap_or_default();
        ends.iter().map(|end| warning(end, channel)).collect::<Vec<_>>()
    };
    setup.accounts.iter().flat_map(|account| of(&account.channel)).collect()
}

fn problems(stats: &Stats, room: Room, low_water: u64, now: Timestamp) -> Vec<ProblemJson> {
    let mut problems = Vec::new();
    let mut add = |code: &str, said: String, action: &str| {
        problems.push(ProblemJson { code: code.into(), said, action: action.into() });
    };
    if let Some(error) = &stats.broken {
        let action = "restart the daemon; it completes the store from its log";
        add("store_broken", format!("the store has stopped: {error}"), action);
    }
    if room == Room::Low {
        let (free, low) = (rough_bytes(stats.free_bytes), rough_bytes(low_water));
        let said = format!("{free} free, and mail is accepted well above {low} (store.low_water_bytes)");
        add("disk_low", said, "free some space on the data directory's file system");
    }
    if stats.damaged > 0 {
        let said = format!("{} of the log cannot be read", count(stats.damaged, "record", "records"));
        add("records_damaged", said, "run \"ticketgate fsck\" and check the disk");
    }
    let waited = stats.spool.oldest.and_then(|oldest| now.duration_since(oldest).try_into().ok());
    if let Some(waited) = waited.filter(|waited: &std::time::Duration| *waited > LATE) {
        let seconds = std::time::Duration::from_secs(waited.as_secs());
        let said = format!("a mail has waited {} for filing", show_duration(seconds));
        add("filing_late", said, "look for errors of filing in the log");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SpoolState;

    #[test]
    fn each_trouble_is_named_with_what_to_do() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let good = Stats { free_bytes: 100, ..Stats::default() };
        let old = SpoolState { oldest: Some(Timestamp::from_second(1_794_999_000).unwrap()), ..SpoolState::default() };
        let table = [
            (good.clone(), Room::Enough, vec![]),
            // Above the mark, but not yet far enough for the doors to open again.
            (Stats { free_bytes: 12, ..good.clone() }, Room::Low, vec!["disk_low"]),
            (
                Stats { broken: Some("x".into()), damaged: 2, ..good.clone() },
                Room::Enough,
                vec!["store_broken", "records_damaged"],
            ),
            (Stats { spool: old, ..good }, Room::Enough, vec!["filing_late"]),
        ];
        for (stats, room, want) in table {
            let problems = problems(&stats, room, 10, now);
            let codes: Vec<&str> = problems.iter().map(|problem| problem.code.as_str()).collect();
            assert_eq!(codes, want);
            assert!(problems.iter().all(|problem| !problem.action.is_empty()));
        }
    }
}
