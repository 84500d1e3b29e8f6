//! Mailboxes that are pulled, against a server that breaks in every way: afterwards each mail is there exactly once.

mod imap_support;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use imap_support::{Fault, Gate, Made, Server, channel, mail, quick_dir, source};
use jiff::Timestamp;
use ticketgate::accounts::{Problem, State, Use};
use ticketgate::clock::Clock;
use ticketgate::pull::Source;
use ticketgate::store::rows::Wanted;

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("m{n}")).collect()
}

fn put(server: &Server, names: &[String]) -> Vec<u32> {
    names.iter().map(|name| server.put(mail(name))).collect()
}

/// A clock that stands still until a test moves it, and gateways that go by it.
fn by_hand(second: i64) -> (Arc<AtomicI64>, impl Fn() -> Made) {
    let second = Arc::new(AtomicI64::new(second));
    let read = second.clone();
    let clock = Clock::from_fn(move || Timestamp::from_second(read.load(Ordering::SeqCst)).unwrap());
    (second, move || Made { pull_clock: clock.clone(), clock: clock.clone(), ..Made::default() })
}

fn problem(gate: &Gate) -> Option<Problem> {
    match gate.connection(1)?.state {
        State::Problem(problem) => Some(problem),
        _ => None,
    }
}

/// How many mails are in a state of the ledger.
fn count(gate: &Gate, state: &str) -> usize {
    gate.ledger(1).iter().filter(|row| row.ends_with(state)).count()
}

async fn connected(server: &Server, gate: &Gate) {
    server.until("the first look", |_| gate.is_idle(1)).await;
}

/// Waits until these uids are labelled on the server.
async fn labelled(server: &Server, uids: &[u32]) {
    server
        .until("labels on all", |state| {
            let inbox = &state.folders["INBOX"].mails;
            uids.iter().all(|uid| inbox[uid].has("Ticketgate") && inbox[uid].has("\\Seen"))
        })
        .await;
}

#[tokio::test]
async fn tickets_are_numbered_in_the_order_of_the_mailbox() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    server.state().refused.insert("IDLE".into());
    let mut uids = Vec::new();
    let names = names(200);
    for (n, name) in names.iter().enumerate() {
        let mut bytes = mail(name);
        // Some go into files of their own, which takes longer than a line in the log.
        bytes.resize(if n % 20 == 7 { 200_000 } else { bytes.len() + n }, b'x');
        uids.push(server.put(bytes));
    }
    labelled(&server, &uids).await;
    assert_eq!(gate.filed(), names);
    gate.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_anywhere_imports_and_labels_exactly_once() {
    let mut cuts = 0;
    for cut in 1.. {
        let (dir, server) = (quick_dir(), Server::start().await);
        server.state().cut_at = Some(cut);
        let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
        connected(&server, &gate).await;
        let names = names(3);
        let uids = put(&server, &names);
        labelled(&server, &uids).await;
        server.until("filing", |_| gate.filed().len() >= 3).await;
        assert_eq!(gate.filed(), names, "cut at write {cut}");
        assert_eq!(gate.ledger(1), ["1 imported", "2 imported", "3 imported"], "cut at write {cut}");
        gate.stop().await;
        if !server.state().was_cut {
            break;
        }
        cuts += 1;
    }
    // Greeting, log-in, SELECT, listing, bodies, labels, IDLE: each has its writes.
    assert!(cuts > 25, "{cuts}");
}

#[tokio::test]
async fn one_mail_that_does_not_come_holds_up_no_other() {
    for fault in [Fault::Refuse, Fault::Cut, Fault::Silent, Fault::Nil, Fault::Endless] {
        let (dir, server) = (quick_dir(), Server::start().await);
        let mut one = source(1, server.port);
        if fault == Fault::Endless {
            one.config.command_timeout = Duration::from_millis(200);
        }
        let gate = Gate::start(dir.path(), vec![one]);
        connected(&server, &gate).await;
        server.state().faults.insert(3, fault);
        let uids = put(&server, &names(5));
        labelled(&server, &[1, 2, 4, 5]).await;
        server.until("a row for it", |_| gate.ledger(1).contains(&"3 unfetchable".to_owned())).await;
        server.until("filing", |_| gate.filed() == ["m1", "m2", "m4", "m5"]).await;
        let row = gate.row(1);
        assert_eq!((row.cursor, row.unfetchable), (uids[4], 1), "{fault:?}");
        server.until("a warning", |_| !gate.connection(1).unwrap().warnings.is_empty()).await;
        assert!(gate.connection(1).unwrap().warnings[0].contains("1 mail is not handed out"), "{fault:?}");
        assert!(gate.metrics.render().contains("state=\"unfetchable\"} 1"));
        // A sweep asks again: in vain, and then with success.
        let sweeps = || server.state().commands.iter().filter(|c| c.starts_with("UID FETCH 3 ")).count();
        let before = sweeps();
        gate.accounts.order(&channel(1), |orders| orders.sweep += 1);
        server
            .until("another try", |state| {
                state.commands.iter().filter(|c| c.starts_with("UID FETCH 3 ")).count() > before
            })
            .await;
        server.state().faults.clear();
        gate.accounts.order(&channel(1), |orders| orders.sweep += 1);
        labelled(&server, &uids).await;
        server.until("filing", |_| gate.filed().len() == 5).await;
        server.until("the count", |_| gate.row(1).unfetchable == 0).await;
        gate.stop().await;
    }
}

#[tokio::test]
async fn a_line_of_a_listing_that_cannot_be_read_holds_up_no_mail() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    server.state().faults.insert(2, Fault::Dateless);
    let uids = put(&server, &names(3));
    labelled(&server, &uids).await;
    server.until("filing", |_| gate.filed().len() == 3).await;
    assert_eq!(gate.ledger(1), ["1 imported", "2 imported", "3 imported"]);
    server.until("a warning", |_| !gate.connection(1).unwrap().warnings.is_empty()).await;
    let warnings = gate.connection(1).unwrap().warnings;
    assert!(warnings[0].contains("of the server's listings cannot be read"), "{warnings:?}");
    // What `n:*` brings of mail that is done is no news, and is not counted.
    server.state().faults.insert(3, Fault::Dateless);
    let looks = |state: &imap_support::server::State| state.commands.iter().filter(|c| c.contains(" 4:* ")).count();
    let before = looks(&server.state());
    server.until("more looks", |state| looks(state) > before + 3).await;
    assert_eq!(gate.connection(1).unwrap().warnings, warnings);
    // The next sweep that finds nothing takes it back.
    server.state().faults.clear();
    gate.accounts.order(&channel(1), |orders| orders.sweep += 1);
    server.until("no warning", |_| gate.connection(1).unwrap().warnings.is_empty()).await;
    gate.stop().await;
}

#[tokio::test]
async fn an_empty_inbox_that_refuses_to_be_listed_is_connected() {
    let (dir, server) = (quick_dir(), Server::start().await);
    server.refuse("UID FETCH", "BAD The specified message set is invalid.");
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    assert_eq!(gate.connection(1).unwrap().state, State::Connected);
    server.state().refused.clear();
    let uids = put(&server, &names(1));
    labelled(&server, &uids).await;
    gate.stop().await;
}

#[tokio::test]
async fn a_mailbox_that_is_an_agents_is_not_opened_with_a_password_file_either() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    let mut setup = (*gate.accounts.setup()).clone();
    setup.uses.push((channel(1), Use::Agent));
    gate.accounts.configure(setup);
    let logins = server.state().logins;
    gate.accounts.order(&channel(1), |orders| orders.changed += 1);
    let is_in_use = || problem(&gate).is_some_and(|problem| problem.cause.code() == "address_in_use");
    server.until("a problem", |_| is_in_use()).await;
    assert_eq!(server.state().logins, logins);
    gate.stop().await;
}

#[tokio::test]
async fn what_a_server_repeats_of_the_login_comes_nowhere() {
    let (dir, server) = (quick_dir(), Server::start().await);
    server.refuse("LOGIN", "NO [AUTHENTICATIONFAILED] not this: %");
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    server.until("a problem", |_| problem(&gate).is_some()).await;
    let said = problem(&gate).unwrap().said;
    assert!(said.contains("LOGIN \"support1@localhost\" \"[secret]\""), "{said}");
    server.until("an event", |_| !gate.store.events(0, 100).unwrap().is_empty()).await;
    let events = gate.store.events(0, 100).unwrap();
    let told: Vec<_> = events.iter().filter_map(|event| event.said.clone()).collect();
    assert!(told.iter().any(|said| said.contains("wrong_password")), "{told:?}");
    assert!(told.iter().all(|said| !said.contains("\"secret\"")), "{told:?}");
    gate.stop().await;
}

#[tokio::test]
async fn of_a_backlog_only_what_is_next_is_listed_again() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let mut one = source(1, server.port);
    (one.config.mails_per_minute, one.config.sweep_every) = (5, Duration::from_secs(86_400));
    let (second, made) = by_hand(1_795_000_000);
    let gate = Gate::made(dir.path(), vec![one], made());
    connected(&server, &gate).await;
    put(&server, &names(1205));
    server.until("the rest waits", |_| (count(&gate, "imported"), count(&gate, "waiting")) == (5, 1200)).await;
    let seen = server.state().commands.len();
    let late = server.put(mail("late"));
    // One of the next, and one further back, leave the folder.
    server.state().inbox().mails.retain(|uid, _| ![7, 1200].contains(uid));
    gate.accounts.order(&channel(1), |orders| orders.look += 1);
    server.until("the new one waits too", |_| gate.rows(1).iter().any(|row| row.uid == late)).await;
    let listings = |state: &imap_support::server::State| -> Vec<String> {
        let lists = |command: &&String| command.starts_with("UID FETCH") && command.contains("RFC822.SIZE");
        let sets = state.commands[seen..].iter().filter(lists).map(|c| c.split(' ').nth(2).unwrap().to_owned());
        sets.collect()
    };
    let sets = listings(&server.state());
    assert!(sets.contains(&"6:1005".to_owned()) && sets.contains(&"1206:*".to_owned()), "{sets:?}");
    assert!(sets.iter().all(|set| set != "6:*"), "{sets:?}");
    assert_eq!(gate.connection(1).unwrap().waiting, 1200);
    // In its turn each is imported or gone, in the order of the mailbox.
    for _ in 0..3 {
        second.fetch_add(61, Ordering::SeqCst);
        let before = count(&gate, "imported");
        gate.accounts.order(&channel(1), |orders| orders.look += 1);
        server.until("the next five", |_| count(&gate, "imported") == before + 5).await;
    }
    assert_eq!((gate.row(1).cursor, gate.row(1).gone), (21, 1));
    gate.stop().await;
}

#[tokio::test]
async fn a_throttled_fetch_is_about_no_mail() {
    let said = [
        "NO [THROTTLED] slow down",
        "BAD Request is throttled. Suggested Backoff Time: 1 milliseconds",
        "NO Server Unavailable. 15",
        "NO [UNAVAILABLE] come back later",
        "NO [INUSE] somebody else is at it",
        "NO [LIMIT] that is enough",
    ];
    for said in said {
        let (dir, server) = (quick_dir(), Server::start().await);
        let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
        connected(&server, &gate).await;
        {
            let mut state = server.state();
            state.faults.insert(1, Fault::Throttle);
            state.refusal = said.into();
        }
        let uids = put(&server, &names(2));
        let asked = |command: &&String| command.starts_with("UID FETCH 1") && command.ends_with("(UID BODY.PEEK[])");
        server.until("more tries than one mail gets", |state| state.commands.iter().filter(asked).count() > 5).await;
        assert!(matches!(gate.connection(1).unwrap().state, State::Problem(_) | State::Connecting | State::Connected));
        assert_eq!((gate.row(1).unfetchable, gate.rows(1).len()), (0, 0), "{said}");
        server.state().faults.clear();
        labelled(&server, &uids).await;
        gate.stop().await;
    }
}

#[tokio::test]
async fn a_refused_login_is_the_passwords_fault_only_if_the_server_says_so() {
    // What it says, the cause, and the seconds until the next try where they are certain.
    let table = [
        ("NO [AUTHENTICATIONFAILED] no", "wrong_password", Some(60)),
        ("NO Request is throttled. Suggested Backoff Time: 30000 milliseconds", "throttled", Some(30)),
        ("BAD Request is throttled. Suggested Backoff Time: 9000000000 milliseconds", "throttled", Some(60)),
        ("NO Server Unavailable. 15", "provider_trouble", None),
        ("NO [INUSE] x", "provider_trouble", None),
        ("NO [CONTACTADMIN] x", "provider_trouble", None),
        ("BAD Command Argument Error. 11", "provider_trouble", None),
    ];
    for (said, cause, seconds) in table {
        let (dir, server) = (quick_dir(), Server::start().await);
        server.refuse("LOGIN", said);
        let mut one = source(1, server.port);
        one.config.retry_most = Duration::from_secs(60);
        let gate = Gate::start(dir.path(), vec![one]);
        server.until("a problem", |_| problem(&gate).is_some()).await;
        assert_eq!(problem(&gate).unwrap().cause.code(), cause, "{said}");
        if let Some(seconds) = seconds {
            let wait = gate.connection(1).unwrap().next_try.unwrap().duration_since(Made::default().clock.now());
            assert_eq!(wait.as_secs(), seconds, "{said}");
        }
        gate.stop().await;
    }
}

#[tokio::test]
async fn mail_that_is_expunged_while_it_is_fetched_is_gone_and_not_malformed() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    server.state().faults.insert(2, Fault::Expunge);
    put(&server, &names(3));
    labelled(&server, &[1, 3]).await;
    server.until("its row", |_| gate.ledger(1).len() == 3).await;
    assert_eq!(gate.ledger(1), ["1 imported", "2 gone", "3 imported"]);
    assert_eq!(gate.row(1).gone, 1);
    gate.stop().await;
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_rejected_without_being_fetched() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    let uid = {
        let mut state = server.state();
        let uid = state.put(mail("large"));
        state.in_inbox(uid).size = 60 << 20;
        uid
    };
    server.bump();
    server
        .until("the label of a rejection", |state| state.folders["INBOX"].mails[&uid].has("RejectedByTicketgate"))
        .await;
    let rows = gate.rows(1);
    assert_eq!((rows[0].state.as_str(), rows[0].reason.as_deref()), ("rejected", Some("too_large")));
    assert!(server.state().served < 64 << 10, "{}", server.state().served);
    let told = gate.metrics.render();
    assert!(told.contains("state=\"rejected\"} 1") && !told.contains("state=\"imported\"} 1"), "{told}");
    gate.stop().await;
}

#[tokio::test]
async fn a_server_without_keywords_is_pulled_with_a_warning() {
    let (dir, server) = (quick_dir(), Server::start().await);
    server.state().keywords = false;
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    let uids = put(&server, &names(2));
    server.until("both read", |state| uids.iter().all(|uid| state.folders["INBOX"].mails[uid].has("\\Seen"))).await;
    server.until("labels noted", |_| gate.rows(1).iter().filter(|row| row.labelled).count() == 2).await;
    assert!(gate.connection(1).unwrap().warnings[0].contains("keeps no keywords"));
    gate.stop().await;
}

#[tokio::test]
async fn one_label_that_is_refused_holds_up_no_other() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    let bad = 17;
    server.state().unlabelled.insert(bad);
    let uids = put(&server, &names(40));
    let others: Vec<u32> = uids.into_iter().filter(|uid| *uid != bad).collect();
    labelled(&server, &others).await;
    // Each further mail that is labelled shows that the server labels; the third refusal is the last.
    for n in 41..=44 {
        let uid = server.put(mail(&format!("m{n}")));
        labelled(&server, &[uid]).await;
    }
    server.until("it is given up", |_| gate.rows(1).iter().any(|row| row.uid == bad && row.label_refused)).await;
    server.until("nothing is owed", |_| gate.store.intents(&channel(1), 100).unwrap().is_empty()).await;
    gate.stop().await;
}

#[tokio::test]
async fn a_new_uidvalidity_imports_nothing_twice() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    let uids = put(&server, &names(3));
    labelled(&server, &uids).await;
    {
        let mut state = server.state();
        let inbox = state.inbox();
        let old: Vec<_> = std::mem::take(&mut inbox.mails).into_values().collect();
        (inbox.validity, inbox.next) = (8, 14);
        for (n, mut moved) in old.into_iter().enumerate() {
            moved.flags.clear();
            inbox.mails.insert(11 + n as u32, moved);
        }
        // The next command ends the session, so that the folder is opened anew.
        state.cut_at = Some(state.writes + 1);
    }
    let new = server.put(mail("new"));
    server.until("the new one", |state| state.folders["INBOX"].mails[&new].has("Ticketgate")).await;
    server.until("filing", |_| gate.filed().len() == 4).await;
    assert_eq!(gate.filed(), ["m1", "m2", "m3", "new"]);
    assert_eq!(gate.ledger(1), ["11 known", "12 known", "13 known", "14 imported"]);
    gate.stop().await;
}

/// Gives all mails of the inbox other numbers, in their order; returns the first of them.
fn renumber(server: &Server, validity: u32) -> u32 {
    let mut state = server.state();
    let inbox = state.inbox();
    let old: Vec<_> = std::mem::take(&mut inbox.mails).into_values().collect();
    let first = inbox.next + 10;
    (inbox.validity, inbox.next) = (validity, first + old.len() as u32);
    inbox.mails.extend((first..).zip(old));
    first
}

/// The source of the first channel, with another name of its user.
fn of_user(user: &str, server: &Server) -> Vec<Source> {
    let mut one = source(1, server.port);
    one.config.user = Some(user.into());
    vec![one]
}

/// Waits until these and no others are filed, in this order.
async fn filed(server: &Server, gate: &Gate, names: &[&str]) {
    server.until("filing", |_| gate.filed().len() >= names.len()).await;
    assert_eq!(gate.filed(), names);
}

/// Waits until these are labelled and the gateway has noted it.
async fn settled(server: &Server, gate: &Gate, uids: &[u32]) {
    labelled(server, uids).await;
    server.until("nothing is owed", |_| gate.store.intents(&channel(1), 100).unwrap().is_empty()).await;
}

fn told(gate: &Gate, words: &str) -> bool {
    let events = gate.store.events(0, 1000).unwrap();
    events.iter().any(|event| event.said.as_deref().is_some_and(|said| said.contains(words)))
}

#[tokio::test]
async fn another_mailbox_of_a_channel_is_connected_for_the_first_time_and_the_earlier_one_goes_on() {
    let (dir, a, b) = (quick_dir(), Server::start().await, Server::start().await);
    let gate = Gate::start(dir.path(), of_user("a@localhost", &a));
    connected(&a, &gate).await;
    settled(&a, &gate, &put(&a, &names(3))).await;
    gate.stop().await;
    // It has the same UIDVALIDITY, fewer mails, and one from before the connection.
    put(&b, &["old".to_owned()]);
    let gate = Gate::start(dir.path(), of_user("B@localhost", &b));
    connected(&b, &gate).await;
    assert!(told(&gate, "a@localhost@127.0.0.1/INBOX"));
    settled(&b, &gate, &put(&b, &["b2".to_owned()])).await;
    assert_eq!(
        (gate.filed(), gate.ledger(1)),
        (["m1", "m2", "m3", "b2"].map(str::to_owned).to_vec(), vec!["2 imported".to_owned()])
    );
    gate.stop().await;
    // Back to the first: it goes on where it stopped.
    let late = put(&a, &["m4".to_owned()]);
    let gate = Gate::start(dir.path(), of_user("A@localhost", &a));
    connected(&a, &gate).await;
    labelled(&a, &late).await;
    filed(&a, &gate, &["m1", "m2", "m3", "b2", "m4"]).await;
    assert_eq!(gate.ledger(1), ["1 imported", "2 imported", "3 imported", "4 imported"]);
    gate.stop().await;
    // And to the second, which was numbered anew meanwhile.
    let first = renumber(&b, 8);
    let late = put(&b, &["b3".to_owned()]);
    let gate = Gate::start(dir.path(), of_user("b@localhost", &b));
    connected(&b, &gate).await;
    labelled(&b, &late).await;
    filed(&b, &gate, &["m1", "m2", "m3", "b2", "m4", "b3"]).await;
    let known = |uid: u32| format!("{uid} known");
    assert_eq!(gate.ledger(1), [known(first), known(first + 1), format!("{} imported", first + 2)]);
    gate.stop().await;
}

#[tokio::test]
async fn another_mailbox_with_another_uidvalidity_imports_nothing_from_before() {
    let (dir, a, b) = (quick_dir(), Server::start().await, Server::start().await);
    let gate = Gate::start(dir.path(), of_user("a@localhost", &a));
    connected(&a, &gate).await;
    settled(&a, &gate, &put(&a, &names(1))).await;
    gate.stop().await;
    put(&b, &["old1".to_owned(), "old2".to_owned()]);
    renumber(&b, 9);
    let gate = Gate::start(dir.path(), of_user("b@localhost", &b));
    connected(&b, &gate).await;
    settled(&b, &gate, &put(&b, &["new".to_owned()])).await;
    filed(&b, &gate, &["m1", "new"]).await;
    gate.stop().await;
}

#[tokio::test]
async fn another_name_of_the_same_mailbox_changes_nothing() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), of_user("support", &server));
    connected(&server, &gate).await;
    settled(&server, &gate, &put(&server, &names(2))).await;
    gate.stop().await;
    let late = put(&server, &["late".to_owned()]);
    let gate = Gate::start(dir.path(), of_user("support@localhost", &server));
    connected(&server, &gate).await;
    labelled(&server, &late).await;
    filed(&server, &gate, &["m1", "m2", "late"]).await;
    gate.stop().await;
}

#[tokio::test]
async fn a_new_uidvalidity_is_borne_wherever_the_connection_is_cut() {
    for cut in 1.. {
        let (dir, server) = (quick_dir(), Server::start().await);
        let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
        connected(&server, &gate).await;
        settled(&server, &gate, &put(&server, &names(2))).await;
        gate.stop().await;
        let first = renumber(&server, 8);
        let new = put(&server, &["new".to_owned()]);
        {
            let mut state = server.state();
            state.cut_at = Some(state.writes + cut);
        }
        let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
        settled(&server, &gate, &new).await;
        filed(&server, &gate, &["m1", "m2", "new"]).await;
        let known = |uid: u32| format!("{uid} known");
        assert_eq!(gate.ledger(1), [known(first), known(first + 1), format!("{} imported", first + 2)], "cut {cut}");
        gate.stop().await;
        if !server.state().was_cut {
            assert!(cut > 15, "{cut}");
            break;
        }
    }
}

#[tokio::test]
async fn labels_that_were_owed_are_set_under_a_new_uidvalidity() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    server.state().refused.insert("UID STORE".into());
    put(&server, &names(2));
    server.until("both owed", |_| gate.store.intents(&channel(1), 100).unwrap().len() == 2).await;
    gate.stop().await;
    let first = renumber(&server, 8);
    server.state().refused.clear();
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    labelled(&server, &[first, first + 1]).await;
    server.until("nothing is owed", |_| gate.store.intents(&channel(1), 100).unwrap().is_empty()).await;
    filed(&server, &gate, &["m1", "m2"]).await;
    assert!(gate.rows(1).iter().all(|row| row.labelled && row.mail.is_some()), "{:?}", gate.rows(1));
    gate.stop().await;
}

#[tokio::test]
async fn mail_whose_size_or_arrival_cannot_be_read_is_imported() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    server.state().unsized_mails.insert(2);
    server.state().undated.insert(3);
    let uids = put(&server, &names(3));
    labelled(&server, &uids).await;
    filed(&server, &gate, &["m1", "m2", "m3"]).await;
    gate.stop().await;
}

#[tokio::test]
async fn unread_mail_that_waits_at_a_new_uidvalidity_is_imported_whatever_its_arrival_says() {
    let (dir, server) = (quick_dir(), Server::start().await);
    put(&server, &["before".to_owned()]);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    settled(&server, &gate, &put(&server, &names(1))).await;
    gate.stop().await;
    // One was moved here and keeps the time at which it came elsewhere, and nobody can read that of the other.
    let uids = put(&server, &["moved".to_owned(), "undated".to_owned()]);
    let long_ago = server.state().now - Duration::from_secs(90 * 86_400);
    server.state().in_inbox(uids[0]).arrived = long_ago;
    let first = renumber(&server, 8);
    server.state().undated.insert(first + 3);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    labelled(&server, &[first + 2, first + 3]).await;
    filed(&server, &gate, &["m1", "moved", "undated"]).await;
    assert_eq!(gate.ledger(1)[..2], [format!("{first} known"), format!("{} known", first + 1)]);
    gate.stop().await;
}

#[tokio::test]
async fn another_mail_under_a_message_id_that_is_known_is_imported_at_a_new_uidvalidity() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    settled(&server, &gate, &put(&server, &names(1))).await;
    gate.stop().await;
    let mut other = mail("m1");
    other.extend_from_slice(b"And this is another scan of the same machine.\r\n");
    server.put(other);
    let first = renumber(&server, 8);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    labelled(&server, &[first + 1]).await;
    assert_eq!(gate.ledger(1), [format!("{first} known"), format!("{} imported", first + 1)]);
    assert_eq!(gate.store.entries(0, 10).unwrap().len(), 2);
    gate.stop().await;
}

#[tokio::test]
async fn mail_that_another_gateway_has_labelled_is_known() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    {
        let mut state = server.state();
        let theirs = state.put(mail("theirs"));
        state.in_inbox(theirs).flags.insert("Ticketgate".to_owned());
    }
    settled(&server, &gate, &put(&server, &["ours".to_owned()])).await;
    filed(&server, &gate, &["ours"]).await;
    assert_eq!(gate.ledger(1), ["1 known", "2 imported"]);
    gate.stop().await;
}

#[tokio::test]
async fn mail_from_before_the_connection_that_does_not_come_is_asked_for_again() {
    let (dir, server) = (quick_dir(), Server::start().await);
    put(&server, &names(4));
    server.state().faults.insert(2, Fault::Refuse);
    // Another gateway has imported this one.
    server.state().in_inbox(4).flags.insert("Ticketgate".to_owned());
    let mut one = source(1, server.port);
    one.config.import_recent = 4;
    let gate = Gate::start(dir.path(), vec![one]);
    server.until("a row for it", |_| gate.ledger(1) == ["1 imported", "2 unfetchable", "3 imported", "4 known"]).await;
    server.until("a warning", |_| !gate.connection(1).unwrap().warnings.is_empty()).await;
    gate.accounts.order(&channel(1), |orders| orders.sweep += 1);
    let asked = |state: &imap_support::server::State| {
        state.commands.iter().filter(|command| command.starts_with("UID FETCH 2 ")).count()
    };
    let before = asked(&server.state());
    server.until("in vain", |state| asked(state) > before && gate.row(1).unfetchable == 1).await;
    server.state().faults.clear();
    gate.accounts.order(&channel(1), |orders| orders.sweep += 1);
    server.until("it comes", |_| gate.ledger(1)[1] == "2 imported" && gate.filed().len() == 3).await;
    let entries = gate.store.entries(0, 10).unwrap();
    assert!(entries.iter().all(|entry| entry.backfill), "{entries:?}");
    gate.stop().await;
}

/// Copies a data directory that is in use, but for its index.
fn copy_log(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_name() == "index" || entry.file_name() == "lock" {
            continue;
        }
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_log(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn the_minute_goes_on_across_a_restart_however_much_waits() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let limited = || {
        let mut one = source(1, server.port);
        one.config.mails_per_minute = 25;
        vec![one]
    };
    let (second, made) = by_hand(1_795_000_000);
    let gate = Gate::made(dir.path(), limited(), made());
    connected(&server, &gate).await;
    put(&server, &names(1025));
    server.until("1,000 wait", |_| count(&gate, "waiting") == 1000).await;
    assert_eq!(count(&gate, "imported"), 25);
    // What a power cut would leave: the log as it is, and no index.
    let cut = quick_dir();
    copy_log(dir.path(), cut.path());
    gate.stop().await;
    second.fetch_add(30, Ordering::SeqCst);
    let looks = server.state().commands.len();
    let gate = Gate::made(cut.path(), limited(), made());
    server.until("another look", |state| state.commands.len() > looks && gate.is_idle(1)).await;
    assert_eq!((count(&gate, "imported"), count(&gate, "waiting")), (25, 1000));
    second.fetch_add(31, Ordering::SeqCst);
    gate.accounts.order(&channel(1), |orders| orders.look += 1);
    server.until("the next 25", |_| count(&gate, "imported") == 50).await;
    gate.stop().await;
}

#[tokio::test]
async fn a_clock_that_steps_back_stops_no_import_and_no_sweep() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let mut one = source(1, server.port);
    (one.config.mails_per_minute, one.config.sweep_every) = (25, Duration::from_secs(600));
    let (second, made) = by_hand(1_795_003_600);
    let gate = Gate::made(dir.path(), vec![one], made());
    connected(&server, &gate).await;
    put(&server, &names(50));
    server.until("25 came", |_| count(&gate, "imported") == 25).await;
    second.fetch_sub(3600, Ordering::SeqCst);
    let swept = || gate.row(1).swept_at.is_some_and(|at| at.as_second() == 1_795_000_000);
    gate.accounts.order(&channel(1), |orders| orders.look += 1);
    server.until("a sweep", |_| swept()).await;
    assert_eq!(count(&gate, "imported"), 25);
    second.fetch_add(61, Ordering::SeqCst);
    gate.accounts.order(&channel(1), |orders| orders.look += 1);
    server.until("the next 25", |_| count(&gate, "imported") == 50).await;
    gate.stop().await;
}

#[tokio::test]
async fn a_panic_starts_the_task_again_and_is_told() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, base) = (calls.clone(), Made::default());
    let clock = base.clock.clone();
    let pull_clock = Clock::from_fn(move || {
        assert!(counted.fetch_add(1, Ordering::SeqCst) != 2, "a panic that the test has ordered");
        clock.now()
    });
    let gate = Gate::made(dir.path(), vec![source(1, server.port)], Made { pull_clock, ..base });
    server.until("a second life", |_| calls.load(Ordering::SeqCst) > 3 && gate.is_idle(1)).await;
    let uids = put(&server, &names(1));
    labelled(&server, &uids).await;
    let events = gate.store.events(0, 100).unwrap();
    assert!(events.iter().any(|event| event.said.as_deref().is_some_and(|said| said.contains("a fault of our own"))));
    gate.stop().await;
}

#[tokio::test]
async fn a_hundred_accounts_of_which_twenty_hang_are_pulled() {
    let dir = quick_dir();
    let (good, bad) = (Server::start().await, Server::start().await);
    bad.state().hang = true;
    let hangs = |n: usize| n.is_multiple_of(5);
    let sources: Vec<Source> = (1..=100).map(|n| source(n, if hangs(n) { bad.port } else { good.port })).collect();
    let gate = Gate::start(dir.path(), sources);
    // All see one mailbox, as accounts of their own; the mail is one ticket in each channel.
    good.until("all have looked", |_| (1..=100).filter(|n| !hangs(*n)).all(|n| gate.is_idle(n))).await;
    good.put(mail("to-all"));
    let imported = |n: usize| gate.ledger(n) == ["1 imported"];
    good.until("all have it", |_| (1..=100).filter(|n| !hangs(*n)).all(imported)).await;
    let stuck = (1..=100).filter(|n| hangs(*n)).filter(|n| !gate.is_idle(*n)).count();
    assert_eq!(stuck, 20);
    gate.stop().await;
}

/// A source that keeps a lease.
fn leased(port: u16) -> Vec<Source> {
    let mut one = source(1, port);
    one.config.lease = true;
    one.config.lease_for = Duration::from_millis(1500);
    vec![one]
}

fn stands_by(gate: &Gate) -> Option<String> {
    problem(gate).filter(|problem| problem.cause.code() == "other_consumer").map(|problem| problem.said)
}

/// Ends a gateway and leaves its lease behind, as when it was killed.
async fn killed(server: &Server, gate: Gate) {
    let marker = server.state().folders["TicketgateLease"].mails.clone();
    gate.stop().await;
    server.state().folders.get_mut("TicketgateLease").unwrap().mails = marker;
}

fn named(host: &str) -> Made {
    Made { host: host.into(), ..Made::default() }
}

#[tokio::test]
async fn the_second_gateway_on_a_mailbox_stands_by_and_takes_over() {
    let (one, two, server) = (quick_dir(), quick_dir(), Server::start().await);
    let first = Gate::made(one.path(), leased(server.port), named("first.example"));
    connected(&server, &first).await;
    // A person keeps something in that folder: nobody touches it.
    {
        let mut state = server.state();
        let folder = state.folders.get_mut("TicketgateLease").unwrap();
        let kept = imap_support::server::Mail { bytes: mail("a-person's"), ..Default::default() };
        folder.next += 1;
        folder.mails.insert(folder.next - 1, kept);
    }
    let second = Gate::made(two.path(), leased(server.port), named("second.example"));
    server.until("the second stands by", |_| stands_by(&second).is_some()).await;
    let said = stands_by(&second).unwrap();
    let id = first.store.instance_id();
    assert!(said.starts_with(&format!("first.example (instance {id}) reads this mailbox since 2026-")), "{said}");
    let uids = put(&server, &names(2));
    labelled(&server, &uids).await;
    assert_eq!((first.filed().len(), second.filed().len()), (2, 0));
    // A restart of the first takes its own lease at once; a clean stop gives it back.
    first.stop().await;
    server.until("the second takes over", |_| second.is_idle(1)).await;
    let late = put(&server, &["late".to_owned()]);
    labelled(&server, &late).await;
    assert_eq!(second.filed(), ["late"]);
    let first = Gate::made(one.path(), leased(server.port), named("first.example"));
    server.until("now the first stands by", |_| stands_by(&first).is_some()).await;
    second.accounts.want(&channel(1), Wanted::Disconnected, "anna").unwrap();
    server.until("it takes over after a disconnect", |_| stands_by(&first).is_none() && first.is_idle(1)).await;
    first.stop().await;
    second.stop().await;
    let state = server.state();
    let left: Vec<_> = state.folders["TicketgateLease"].mails.values().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].bytes, mail("a-person's"));
}

#[tokio::test]
async fn a_lease_whose_holder_died_runs_out_and_its_own_instance_does_not_wait() {
    let (one, two, server) = (quick_dir(), quick_dir(), Server::start().await);
    // It is never renewed or released: the marker of a dead gateway, by the server's clock and by everybody's.
    let first = Gate::made(one.path(), leased(server.port), named("first.example"));
    connected(&server, &first).await;
    killed(&server, first).await;
    let first = Gate::made(one.path(), leased(server.port), named("first.example"));
    server.until("its own lease is taken at once", |_| first.is_idle(1)).await;
    killed(&server, first).await;
    let second = Gate::made(two.path(), leased(server.port), named("second.example"));
    server.until("the second waits", |_| stands_by(&second).is_some()).await;
    server.state().now += Duration::from_secs(60);
    server.until("it runs out", |_| second.is_idle(1)).await;
    second.stop().await;
}

#[tokio::test]
async fn of_gateways_that_start_at_once_one_reads_the_mailbox() {
    let server = Server::start().await;
    let dirs: Vec<_> = (0..4).map(|_| quick_dir()).collect();
    let gates: Vec<Gate> =
        dirs.iter().map(|dir| Gate::made(dir.path(), leased(server.port), Made::default())).collect();
    server
        .until("one reads and three stand by", |_| {
            let reading = gates.iter().filter(|gate| gate.is_idle(1) && stands_by(gate).is_none()).count();
            reading == 1 && gates.iter().filter(|gate| stands_by(gate).is_some()).count() == 3
        })
        .await;
    let uids = put(&server, &names(5));
    labelled(&server, &uids).await;
    let filed: Vec<usize> = gates.iter().map(|gate| gate.filed().len()).collect();
    assert_eq!(filed.iter().sum::<usize>(), 5, "{filed:?}");
    assert_eq!(filed.iter().filter(|count| **count > 0).collect::<HashSet<_>>().len(), 1, "{filed:?}");
    for gate in gates {
        gate.stop().await;
    }
}

#[tokio::test]
async fn a_gateway_that_stands_by_imports_what_came_before_it_takes_over() {
    let (one, two, server) = (quick_dir(), quick_dir(), Server::start().await);
    let first = Gate::made(one.path(), leased(server.port), named("first.example"));
    connected(&server, &first).await;
    labelled(&server, &put(&server, &["theirs".to_owned()])).await;
    killed(&server, first).await;
    let second = Gate::made(two.path(), leased(server.port), named("second.example"));
    server.until("the second stands by", |_| stands_by(&second).is_some()).await;
    let gap = put(&server, &["gap".to_owned()]);
    server.state().now += Duration::from_secs(60);
    labelled(&server, &gap).await;
    server.until("filing", |_| second.filed() == ["gap"]).await;
    assert_eq!(second.ledger(1), ["2 imported"]);
    second.stop().await;
}

/// A mail that comes in slices.
fn large(name: &str) -> Vec<u8> {
    let mut bytes = mail(name);
    bytes.resize(1_300_000, b'x');
    bytes
}

#[tokio::test]
async fn a_lease_is_renewed_between_mails_and_its_loss_ends_the_import_at_once() {
    let (dir, server) = (quick_dir(), Server::start().await);
    {
        let lease = imap_support::server::Folder { validity: 3, next: 10, mails: Default::default() };
        server.state().folders.insert("TicketgateLease".into(), lease);
    }
    let gate = Gate::made(dir.path(), leased(server.port), Made::default());
    connected(&server, &gate).await;
    server.state().slow = Duration::from_millis(100);
    server.state().commands.clear();
    // Put there at once, so that one look finds all of them.
    let names = names(12);
    {
        let mut state = server.state();
        for name in &names {
            state.put(large(name));
        }
    }
    server.bump();
    let position = |state: &imap_support::server::State, words: &str| {
        state.commands.iter().position(|command| command.starts_with(words))
    };
    server
        .until("a renewal between mails", |state| {
            let begun = position(state, "UID FETCH 1 (UID BODY.PEEK[]<");
            let renewed = state.commands.iter().rposition(|command| command.starts_with("APPEND"));
            assert!(position(state, "UID FETCH 12 (UID BODY.PEEK[]<").is_none(), "no renewal before the last mail");
            begun.is_some() && renewed > begun
        })
        .await;
    // Somebody else's claim has won.
    {
        let mut state = server.state();
        let bytes = b"X-Ticketgate-Instance: other\r\nX-Ticketgate-Host: other.example\r\n\
                      X-Ticketgate-For: 600000\r\n\r\nx\r\n"
            .to_vec();
        let arrived = state.now;
        let claim = imap_support::server::Mail { bytes, size: 100, arrived, ..Default::default() };
        state.folders.get_mut("TicketgateLease").unwrap().mails.insert(1, claim);
    }
    server.until("it stands by", |_| stands_by(&gate).is_some()).await;
    assert!(gate.filed().len() < 12, "{:?}", gate.filed());
    assert!(position(&server.state(), "UID FETCH 12 (UID BODY.PEEK[]<").is_none());
    gate.stop().await;
}

#[tokio::test]
async fn a_lease_is_kept_where_all_folders_lie_below_the_inbox() {
    let (dir, server) = (quick_dir(), Server::start().await);
    server.state().prefix = Some("INBOX.".into());
    let gate = Gate::made(dir.path(), leased(server.port), Made::default());
    connected(&server, &gate).await;
    assert!(gate.connection(1).unwrap().warnings.is_empty(), "{:?}", gate.connection(1).unwrap().warnings);
    assert_eq!(server.state().folders["INBOX.TicketgateLease"].mails.len(), 1);
    gate.stop().await;
    assert_eq!(server.state().folders["INBOX.TicketgateLease"].mails.len(), 0);
}

#[tokio::test]
async fn a_server_that_takes_no_lease_is_pulled_with_a_warning() {
    let (dir, server) = (quick_dir(), Server::start().await);
    server.state().refused.insert("CREATE".into());
    let gate = Gate::made(dir.path(), leased(server.port), Made::default());
    connected(&server, &gate).await;
    let uids = put(&server, &names(1));
    labelled(&server, &uids).await;
    let warnings = gate.connection(1).unwrap().warnings;
    assert!(warnings[0].contains("takes no lease in the folder TicketgateLease (CREATE: not that)"), "{warnings:?}");
    gate.stop().await;
}

#[tokio::test]
async fn mail_without_a_return_path_is_not_automatic() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    let with = |path: &str, name: &str| [path.as_bytes(), &mail(name)].concat();
    let uids = [
        server.put(mail("unknown")),
        server.put(with("Return-Path: <alice@example.net>\r\n", "known")),
        server.put(with("Return-Path: <>\r\n", "null")),
    ];
    labelled(&server, &uids).await;
    let senders: Vec<_> = gate
        .store
        .entries(0, 10)
        .unwrap()
        .iter()
        .map(|row| gate.store.mail(row.mail.unwrap()).unwrap().meta.envelope.mail_from.map(|from| from.to_string()))
        .collect();
    assert_eq!(senders, [None, Some("alice@example.net".to_owned()), None]);
    gate.stop().await;
}

#[tokio::test]
async fn a_mail_that_is_imported_at_a_second_try_loses_the_label_of_its_rejection() {
    for gmail in [false, true] {
        let (dir, server) = (quick_dir(), Server::start().await);
        if gmail {
            server.state().capabilities.push_str(" X-GM-EXT-1");
        }
        let shallow = Made { max_depth: 2, ..Made::default() };
        let gate = Gate::made(dir.path(), vec![source(1, server.port)], shallow);
        connected(&server, &gate).await;
        let mut nested = mail("nested");
        let at = nested.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        nested.truncate(at + 2);
        for depth in 0..4 {
            let part = format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n");
            nested.extend_from_slice(part.as_bytes());
        }
        nested.extend_from_slice(b"\r\nhello\r\n");
        let uid = server.put(nested);
        let rejected =
            |state: &imap_support::server::State| state.folders["INBOX"].mails[&uid].has("RejectedByTicketgate");
        server.until("the label of a rejection", rejected).await;
        server.until("its row", |_| gate.rows(1).iter().any(|row| row.labelled)).await;
        gate.stop().await;
        let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
        connected(&server, &gate).await;
        let entry = gate.store.entries(0, 10).unwrap().remove(0);
        gate.store.step(|step| step.retry(&entry.id, "anna", Made::default().clock.now())).unwrap();
        gate.accounts.order(&channel(1), |orders| orders.look += 1);
        server.until("it is gone", |state| !rejected(state)).await;
        labelled(&server, &[uid]).await;
        assert_eq!(gate.ledger(1), ["1 imported"]);
        gate.stop().await;
    }
}

#[tokio::test]
async fn a_folder_is_missing_only_if_it_is_not_there() {
    // The folder, whether the server has it, what it refuses to open it with, the cause.
    let table = [
        ("INBOX", "NO SELECT failed", "provider_trouble"),
        ("INBOX", "NO [NONEXISTENT] no", "folder_missing"),
        ("INBOX", "BAD Command Error. 10", "provider_trouble"),
        ("Support", "NO SELECT failed", "folder_missing"),
        ("Support", "NO [INUSE] locked", "provider_trouble"),
    ];
    for (folder, said, cause) in table {
        let (dir, server) = (quick_dir(), Server::start().await);
        server.refuse("SELECT", said);
        let mut one = source(1, server.port);
        one.config.folder = folder.into();
        let gate = Gate::start(dir.path(), vec![one]);
        server.until("a problem", |_| problem(&gate).is_some()).await;
        let told = problem(&gate).unwrap();
        let words = said.split_once(' ').unwrap().1;
        assert!(told.cause.code() == cause && told.said.contains(words), "{folder} {said}: {told:?}");
        // Trouble passes by itself.
        server.state().refused.clear();
        if folder == "INBOX" {
            connected(&server, &gate).await;
        }
        gate.stop().await;
    }
}

#[tokio::test]
async fn a_lease_that_cannot_be_looked_at_just_now_is_waited_for() {
    let (dir, server) = (quick_dir(), Server::start().await);
    server.refuse("SELECT \"TicketgateLease\"", "NO [UNAVAILABLE] come back later");
    let gate = Gate::made(dir.path(), leased(server.port), Made::default());
    server.until("a problem", |_| problem(&gate).is_some()).await;
    assert_eq!(problem(&gate).unwrap().cause.code(), "provider_trouble");
    // It is not read beside whoever may hold the lease, and none is made somewhere else.
    assert!(!gate.is_idle(1));
    assert_eq!(server.state().folders.keys().collect::<Vec<_>>(), ["INBOX"]);
    server.state().refused.clear();
    connected(&server, &gate).await;
    assert!(gate.connection(1).unwrap().warnings.is_empty());
    gate.stop().await;
}

#[tokio::test]
async fn mail_is_moved_into_ones_own_namespace() {
    for namespace in [true, false] {
        let (dir, server) = (quick_dir(), Server::start().await);
        {
            let mut state = server.state();
            state.prefix = Some("INBOX.".into());
            if namespace {
                state.capabilities.push_str(" NAMESPACE");
            }
            let done = imap_support::server::Folder { validity: 3, next: 1, mails: Default::default() };
            state.folders.insert("INBOX.Done".into(), done);
        }
        let mut sources = leased(server.port);
        sources[0].config.move_to = Some("Done".into());
        let gate = Gate::made(dir.path(), sources, Made::default());
        connected(&server, &gate).await;
        put(&server, &names(2));
        server.until("they are moved", |state| state.folders["INBOX.Done"].mails.len() == 2).await;
        gate.stop().await;
        let state = server.state();
        assert!(state.folders.contains_key("INBOX.TicketgateLease") && state.folders["INBOX"].mails.is_empty());
        assert_eq!(state.commands.iter().any(|command| command == "LIST \"\" INBOX"), !namespace);
        let tried = |command: &String| command.starts_with("CREATE \"TicketgateLease\"");
        assert_eq!(state.commands.iter().any(tried), !namespace);
    }
}

#[tokio::test]
async fn what_becomes_of_mail_from_before_the_connection_is_counted() {
    let (dir, server) = (quick_dir(), Server::start().await);
    put(&server, &names(4));
    server.state().in_inbox(4).flags.insert("Ticketgate".to_owned());
    let mut one = source(1, server.port);
    (one.config.import_recent, one.config.mails_per_minute) = (4, 1);
    let (second, made) = by_hand(1_795_000_000);
    let gate = Gate::made(dir.path(), vec![one], made());
    server.until("the first", |_| count(&gate, "imported") == 1).await;
    server.state().inbox().mails.remove(&2);
    second.fetch_add(61, Ordering::SeqCst);
    gate.accounts.order(&channel(1), |orders| orders.look += 1);
    server.until("the others", |_| gate.ledger(1) == ["1 imported", "2 gone", "3 imported", "4 known"]).await;
    server.until("the look", |_| gate.row(1).backfill.is_empty()).await;
    let metrics = gate.metrics.render();
    for state in ["known", "gone"] {
        assert!(metrics.contains(&format!("state=\"{state}\"}} 1\n")), "{state}: {metrics}");
    }
    gate.stop().await;
}

#[tokio::test]
async fn mail_that_comes_and_goes_between_two_looks_is_counted() {
    let (dir, server) = (quick_dir(), Server::start().await);
    put(&server, &names(3));
    // What came and went before the connection is nobody's business.
    server.state().inbox().next = 10;
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    // Two come and go, and one comes and stays.
    {
        let mut state = server.state();
        for name in ["a", "b"] {
            let uid = state.put(mail(name));
            state.inbox().mails.remove(&uid);
        }
        state.put(mail("c"));
    }
    server.bump();
    labelled(&server, &[12]).await;
    server.until("the count", |_| gate.row(1).vanished == 2).await;
    assert!(gate.metrics.render().contains("ticketgate_mailbox_vanished_uids_total{channel=\"support1@localhost\"} 2"));
    // The last one shows when the folder is opened again; and it counts once, whatever happens.
    {
        let mut state = server.state();
        let uid = state.put(mail("d"));
        state.inbox().mails.remove(&uid);
    }
    for _ in 0..2 {
        let logins = server.state().logins;
        gate.accounts.order(&channel(1), |orders| orders.changed += 1);
        server.until("another session", |state| state.logins > logins && gate.is_idle(1)).await;
        server.until("the count", |_| gate.row(1).vanished == 3).await;
    }
    gate.stop().await;
    let gate = Gate::start(dir.path(), vec![source(1, server.port)]);
    connected(&server, &gate).await;
    settled(&server, &gate, &put(&server, &["e".to_owned()])).await;
    assert_eq!(gate.row(1).vanished, 3);
    gate.stop().await;
}

#[tokio::test]
async fn a_server_that_talks_without_end_when_it_shall_go_on_is_given_up() {
    let (dir, server) = (quick_dir(), Server::start().await);
    server.state().endless_idle = true;
    let mut one = source(1, server.port);
    one.config.command_timeout = Duration::from_millis(250);
    let gate = Gate::start(dir.path(), vec![one]);
    let cause = || problem(&gate).map(|problem| problem.cause.code());
    server.until("it is given up", |_| cause() == Some("timeout")).await;
    server.state().endless_idle = false;
    let uids = put(&server, &names(1));
    labelled(&server, &uids).await;
    gate.stop().await;
}

#[tokio::test]
async fn mail_that_is_told_of_while_labels_are_set_is_looked_for_at_once() {
    let (dir, server) = (quick_dir(), Server::start().await);
    let mut one = source(1, server.port);
    // Nothing but the server's word brings the next look.
    let day = Duration::from_secs(86_400);
    (one.config.poll_least, one.config.poll, one.config.poll_most) = (day, day, day);
    let gate = Gate::start(dir.path(), vec![one]);
    connected(&server, &gate).await;
    // It comes with the labels of another one, and the server tells of it in the answer to that command.
    server.state().with_store = Some(mail("second"));
    let first = server.put(mail("first"));
    labelled(&server, &[first, first + 1]).await;
    filed(&server, &gate, &["first", "second"]).await;
    gate.stop().await;
}

#[tokio::test]
async fn a_mailbox_of_an_older_version_begins_to_count_where_it_stopped() {
    let (dir, server) = (quick_dir(), Server::start().await);
    put(&server, &names(3));
    let mut one = source(1, server.port);
    let day = Duration::from_secs(86_400);
    (one.config.poll_least, one.config.poll, one.config.poll_most) = (day, day, day);
    let gate = Gate::start(dir.path(), vec![one]);
    connected(&server, &gate).await;
    // As it was before anything was counted.
    let row = ticketgate::store::rows::SourceRow { counted_to: 0, ..gate.row(1) };
    gate.store.step(|step| step.put_source(&channel(1), &row)).unwrap();
    server.state().commands.clear();
    gate.accounts.order(&channel(1), |orders| orders.changed += 1);
    let waits = |state: &imap_support::server::State| state.commands.last().is_some_and(|command| command == "IDLE");
    server.until("it waits", waits).await;
    let looks = server.state().commands.iter().filter(|command| command.starts_with("UID FETCH 4:*")).count();
    assert_eq!((looks, gate.row(1).vanished), (1, 0));
    {
        let mut state = server.state();
        let uid = state.put(mail("gone"));
        state.inbox().mails.remove(&uid);
        state.put(mail("here"));
    }
    server.bump();
    labelled(&server, &[5]).await;
    server.until("the count", |_| gate.row(1).vanished == 1).await;
    gate.stop().await;
}
