//! How the outbox does, for the status: its depth, its lanes, its quotas, and what to do where mail waits for people.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::types::ProblemJson;
use crate::outbox::Snapshot;
use crate::store::rows::BrakeRow;
use crate::units::{count, show_duration};

/// Mail that waits longer than this while its attempts are due is a problem.
const LATE: std::time::Duration = std::time::Duration::from_secs(4 * 3600);

/// Mail that waits to leave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct OutboxStatus {
    pub mails: u64,
    /// Mails whose next attempt is due.
    pub due: u64,
    /// Attempts that are under way.
    pub running: u64,
    pub oldest_created_at: Option<String>,
    pub lanes: Vec<LaneJson>,
    pub quotas: Vec<QuotaJson>,
    /// Loop brakes that have tripped.
    pub brakes: u64,
}

/// A server, or the servers of one domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LaneJson {
    pub name: String,
    pub relay: String,
    pub due: u64,
    pub running: u64,
    /// Until when nothing is tried, and why.
    pub rests_until: Option<String>,
    pub why: Option<String>,
    /// What its server said when it had taken nothing of many mails in a row: it gets one at a time.
    #[serde(default)]
    pub slow: Option<String>,
}

/// What is left of the quota of an account; `null` where there is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuotaJson {
    pub relay: String,
    pub channel: String,
    pub messages_per_minute: Option<u64>,
    pub bytes_per_5_minutes: Option<u64>,
    pub recipients_per_day: Option<u64>,
    pub messages_per_day: Option<u64>,
    /// A day's window is nearly used.
    pub near: bool,
    /// Until when mail waits.
    pub waits_until: Option<String>,
    /// While it is nearly used: for which domains the default relay takes over, and for which it does not, and why.
    #[serde(default)]
    pub takeovers: Vec<String>,
}

/// The status, from what the worker shows.
pub fn status(board: &Snapshot, brakes: usize) -> OutboxStatus {
    let lanes = board.lanes.iter().map(|lane| LaneJson {
        name: lane.name.clone(),
        relay: lane.relay.clone(),
        due: lane.waiting,
        running: lane.running,
        rests_until: lane.rests.as_ref().map(|(until, _)| until.to_string()),
        why: lane.rests.as_ref().map(|(_, why)| why.clone()),
        slow: lane.slow.clone(),
    });
    let quotas = board.quotas.iter().map(|quota| QuotaJson {
        relay: quota.relay.clone(),
        channel: quota.channel.clone(),
        messages_per_minute: quota.remaining.messages_per_minute,
        bytes_per_5_minutes: quota.remaining.bytes_per_five_minutes,
        recipients_per_day: quota.remaining.recipients_per_day,
        messages_per_day: quota.remaining.messages_per_day,
        near: quota.near,
        waits_until: quota.until.as_ref().map(|(until, _)| until.to_string()),
        takeovers: quota.takeovers.values().map(|takeover| takeover.said.clone()).collect(),
    });
    OutboxStatus {
        mails: board.mails,
        due: board.due,
        running: board.running,
        oldest_created_at: board.oldest.map(|at| at.to_string()),
        lanes: lanes.take(100).collect(),
        quotas: quotas.collect(),
        brakes: brakes as u64,
    }
}

/// What is wrong, each with what to do.
pub fn problems(board: &Snapshot, brakes: &[BrakeRow], now: Timestamp) -> Vec<ProblemJson> {
    let mut problems = Vec::new();
    let mut add = |code: &str, said: String, action: &str| {
        problems.push(ProblemJson { code: code.into(), said, action: action.into() });
    };
    if let Some(sandbox) = &board.sandbox {
        let said = format!("all mail goes to the Maildir of relay \"{sandbox}\", and none to people");
        add("sandbox", said, "take outbox.sandbox out of the configuration when mail is to leave");
    }
    for (channel, why) in &board.blocked {
        // The reason says what to do about the account.
        let action = "until then it leaves by no other relay";
        add("outbox_account", format!("mail of {channel} waits: {why}"), action);
    }
    for lane in board.lanes.iter().filter(|lane| lane.name.starts_with("(no relay)") && lane.waiting > 0) {
        let waiting = count(lane.waiting, "mail waits", "mails wait");
        let said = format!("{waiting} for relay \"{}\", which is not configured", lane.relay);
        add("outbox_no_relay", said, "add the [[relay]] and reload, or use \"ticketgate outbox reroute\"");
    }
    for lane in &board.lanes {
        if let Some((until, why)) = &lane.rests {
            let waiting = count(lane.waiting, "mail", "mails");
            let said = format!("\"{}\" rests until {until:.0} with {waiting}: {why}", lane.name);
            add(
                "outbox_lane_rests",
                said,
                "look at that server, or at the relay's login where that is refused; mail is tried again by itself",
            );
        } else if let Some(said) = &lane.slow {
            let waiting = count(lane.waiting, "mail waits", "mails wait");
            let said = format!("\"{}\" takes nothing, and gets one mail at a time ({waiting}): {said}", lane.name);
            add("outbox_lane_slow", said, "look at what that server says; once it takes a mail it gets more again");
        }
    }
    for quota in board.quotas.iter().filter(|quota| quota.near) {
        let said = format!("the quota of {} at relay \"{}\" is nearly used", quota.channel, quota.relay);
        add("quota_near", said, "wait for the window, or send by another relay");
        for takeover in quota.takeovers.values().filter(|takeover| !takeover.takes) {
            let said = format!("mail of {} has no other way out: {}", quota.channel, takeover.said);
            let action = "publish what is missing, or set relay.quota.give_way; \"ticketgate doctor\" tells more";
            add("takeover_refused", said, action);
        }
    }
    if !brakes.is_empty() {
        let held: u64 = brakes.iter().map(|brake| brake.held).sum();
        let tripped = count(brakes.len(), "loop brake has tripped", "loop brakes have tripped");
        let said = format!("{tripped}; held: {}", count(held, "mail", "mails"));
        add("loop_brakes", said, "see \"ticketgate loops list\"; stop the loop, then release them");
    }
    let waited = board.oldest.and_then(|oldest| std::time::Duration::try_from(now.duration_since(oldest)).ok());
    if let Some(waited) = waited.filter(|waited| *waited > LATE) {
        let said =
            format!("a mail has waited {} to leave", show_duration(std::time::Duration::from_secs(waited.as_secs())));
        add("outbox_late", said, "see \"ticketgate outbox list --state waiting\"");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::accounts::Takeover;
    use crate::outbox::board::{LaneState, QuotaState};
    use crate::outbox::quota::Remaining;

    #[test]
    fn what_waits_for_people_is_named_with_what_to_do() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let lane = |name: &str, rests: Option<&str>, slow: Option<&str>| LaneState {
            name: name.into(),
            relay: "smart".into(),
            waiting: 3,
            running: 0,
            rests: rests.map(|why| (now, why.into())),
            slow: slow.map(str::to_owned),
        };
        let board = Snapshot {
            mails: 3,
            oldest: Timestamp::from_second(1_794_900_000).ok(),
            lanes: vec![
                lane("smart", Some("451 no route"), Some("550 no")),
                lane("(no relay) gone", None, None),
                lane("hub", None, Some("550 blocked")),
            ],
            blocked: [("support@a.example".to_owned(), "it is disconnected".to_owned())].into(),
            ..Snapshot::default()
        };
        let brake = BrakeRow {
            id: "b".into(),
            scope: "recipient".into(),
            ticket: None,
            recipient: None,
            minutes: 10,
            mails: 30,
            at: now,
            held: 4,
        };
        let codes: Vec<String> = problems(&board, &[brake], now).into_iter().map(|problem| problem.code).collect();
        let lanes = ["outbox_lane_rests", "outbox_lane_slow"];
        let want = [&["outbox_account", "outbox_no_relay"][..], &lanes, &["loop_brakes", "outbox_late"]].concat();
        assert_eq!(codes, want);
        assert_eq!(problems(&Snapshot::default(), &[], now), []);
        assert_eq!(status(&board, 1).lanes[0].why.as_deref(), Some("451 no route"));
    }

    #[test]
    fn who_takes_over_and_who_does_not_is_told() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let takeover = |takes, said: &str| Takeover { takes, said: said.into() };
        let takeovers = [
            ("a.example".to_owned(), takeover(true, "it takes over for a.example")),
            ("b.example".to_owned(), takeover(false, "it may not send for b.example")),
        ];
        let quota = QuotaState {
            relay: "gmail".into(),
            channel: "support@a.example".into(),
            senders: ["support@a.example".to_owned()].into(),
            remaining: Remaining::default(),
            near: true,
            until: None,
            takeovers: takeovers.into(),
        };
        let board = Snapshot { quotas: vec![quota], ..Snapshot::default() };
        let told: Vec<(String, String)> =
            problems(&board, &[], now).into_iter().map(|problem| (problem.code, problem.said)).collect();
        assert_eq!(told.iter().map(|(code, _)| code.as_str()).collect::<Vec<_>>(), ["quota_near", "takeover_refused"]);
        assert_eq!(told[1].1, "mail of support@a.example has no other way out: it may not send for b.example");
        let shown = &status(&board, 0).quotas[0].takeovers;
        assert_eq!(*shown, ["it takes over for a.example", "it may not send for b.example"]);
    }
}
