//! Sessions with the real server on a loopback port, written down in tests/transcripts (see its README).

#[path = "support/dns.rs"]
mod name_server;
mod smtp_support;

use smtp_support::{Bed, transcript};

/// Runs every transcript whose name begins with `prefix`, each against a server of its own.
async fn run(prefix: &str) {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut names: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix) && name.ends_with(".txt"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no transcript begins with {prefix}");
    for name in names {
        let text = std::fs::read_to_string(directory.join(&name)).unwrap();
        transcript::run(&name, &text).await;
    }
}

#[tokio::test]
async fn protocol() {
    run("protocol_").await;
}

#[tokio::test]
async fn limits() {
    run("limit_").await;
}

#[tokio::test]
async fn tls() {
    run("tls_").await;
}

#[tokio::test]
async fn submission() {
    run("submission_").await;
}

#[tokio::test]
async fn proxy() {
    run("proxy_").await;
}

/// The ends of data that other servers were fooled with, each in DATA with a second mail smuggled behind it.
#[tokio::test]
async fn smuggled_ends_of_data_make_one_mail_at_most() {
    const ENDS: [&[u8]; 12] = [
        b"\n.\n",
        b"\n.\r",
        b"\n.\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r\n.\r\r\n",
        b"\r\r\n.\r\r\n",
        b"\r.\n",
        b"\r.\r",
        b"\r.\r\n",
    ];
    let smuggled = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\nFrom: e@example.org\r\n\r\nevil\r\n.\r\n";
    for (policy, mails) in [("accept", 1), ("refuse", 0)] {
        for end in ENDS {
            // Once in one write, once octet by octet.
            for step in [usize::MAX, 1] {
                let bed = Bed::start(&format!("bare_newlines = {policy:?}"), |_| {}).await;
                let mut client = bed.connect().await;
                client.say("EHLO x\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n").await;
                client.read_until("354 ").await;
                let data = [b"From: a@example.net\r\n\r\nfirst".as_slice(), end, smuggled].concat();
                for piece in data.chunks(step.min(data.len())) {
                    client.write(piece).await;
                }
                client.say("QUIT\r\n").await;
                let replies = client.read_to_end().await;
                // Where only a NUL stands in the end of data, there is no bare newline to refuse.
                let nul = end.contains(&0);
                let want = if nul { 1 } else { mails };
                assert_eq!(bed.accepted().len(), want, "{}: {replies}", end.escape_ascii());
                assert_eq!(replies.matches("250 2.0.0 Accepted").count(), want, "{replies}");
                assert!(!replies.contains("250 2.1.0"), "{}: a smuggled MAIL was obeyed", end.escape_ascii());
            }
        }
    }
}

#[tokio::test]
async fn connections_are_limited_in_all_and_per_peer() {
    let bed = Bed::start("max_connections = 2", |_| {}).await;
    let (mut one, mut two) = (bed.connect().await, bed.connect().await);
    one.read_until("220 ").await;
    two.read_until("220 ").await;
    assert!(bed.connect().await.read_to_end().await.starts_with("421 4.3.2 "));
    let bed = Bed::start("max_connections_per_peer = 1\nrate_exempt = []", |_| {}).await;
    let mut one = bed.connect().await;
    one.read_until("220 ").await;
    assert!(bed.connect().await.read_to_end().await.starts_with("421 4.7.0 "));
    one.say("QUIT\r\n").await;
    one.read_to_end().await;
    // The place is free again once the server has seen the end, which it may see after us.
    while !bed.connect().await.read_some().await.starts_with("220 ") {}
}

#[tokio::test]
async fn a_slow_client_is_ended_and_does_not_slow_others() {
    let bed = Bed::start("transaction_timeout = \"1s\"\nidle_timeout = \"30s\"", |_| {}).await;
    let mut slow = bed.connect().await;
    slow.say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n").await;
    slow.read_until("354 ").await;
    let drip = tokio::spawn(async move {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
        loop {
            tick.tick().await;
            if slow.try_write(b"x").await.is_err() {
                return slow.read_to_end().await;
            }
            let heard = slow.heard();
            if heard.contains("421 ") {
                return heard;
            }
        }
    });
    let mut served = 0;
    while !drip.is_finished() {
        let mut client = bed.connect().await;
        client.mail("From: a@example.net\r\n\r\nquick\r\n").await;
        served += 1;
    }
    assert!(served > 3, "{served} quick clients were served beside the slow one");
    assert!(drip.await.unwrap().contains("421 4.4.2 The mail takes too long"));
    // A command that never ends is no better, however often an octet comes.
    let bed = Bed::start("idle_timeout = \"1s\"", |_| {}).await;
    let mut slow = bed.connect().await;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    while !slow.heard().contains("421 4.4.2 ") {
        tick.tick().await;
        slow.try_write(b"N").await.unwrap();
    }
}

#[tokio::test]
async fn stopping_lets_mails_finish_and_sends_the_idle_away() {
    let mut bed = Bed::start("", |_| {}).await;
    let (mut idle, mut busy) = (bed.connect().await, bed.connect().await);
    idle.read_until("220 ").await;
    busy.say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n").await;
    busy.read_until("354 ").await;
    bed.stop();
    assert!(idle.read_to_end().await.ends_with("421 4.3.2 Service shutting down\r\n"));
    busy.say("From: a@example.net\r\n\r\nlate\r\n.\r\n").await;
    let replies = busy.read_to_end().await;
    assert!(replies.contains("250 2.0.0 Accepted as ") && replies.ends_with("421 4.3.2 Service shutting down\r\n"));
    bed.stopped().await;
    assert_eq!(bed.accepted().len(), 1);

    let mut bed = Bed::start("drain_timeout = \"0s\"", |_| {}).await;
    let mut stuck = bed.connect().await;
    stuck.say("EHLO x\r\nMAIL FROM:<>\r\n").await;
    stuck.read_until("250 2.1.0 ").await;
    bed.stop();
    bed.stopped().await;
}

#[tokio::test]
async fn certificates_reload_for_new_connections() {
    let bed = Bed::start("", |bed| bed.with_tls()).await;
    let mut before = bed.connect().await;
    let first = before.start_tls(None).await;
    let second_files = bed.reload_tls();
    let mut after = bed.connect().await;
    assert_eq!(after.start_tls(None).await, second_files);
    assert_ne!(first, second_files);
    // The connection that was open goes on with what it began with.
    before.mail("From: a@example.net\r\n\r\nx\r\n").await;
}

#[tokio::test]
async fn a_client_certificate_opens_the_door() {
    for by_name in [true, false] {
        let bed = Bed::start("allow_from = []", |bed| bed.with_client("forwarder.example.net", by_name)).await;
        let mut stranger = bed.connect().await;
        stranger.start_tls(None).await;
        stranger.say("EHLO x\r\nMAIL FROM:<>\r\nQUIT\r\n").await;
        assert!(stranger.read_to_end().await.contains("550 5.7.1 "));
        let mut known = bed.connect().await;
        known.start_tls(bed.client_certificate()).await;
        known.mail("From: a@example.net\r\n\r\nx\r\n").await;
        let accepted = bed.accepted();
        assert!(accepted[0].origin.tls.as_deref().unwrap().starts_with("TLSv1.3 TLS13_"));
        let shown = accepted[0].origin.client_certificate.as_deref();
        let want = if by_name { "forwarder.example.net" } else { "sha256:" };
        assert!(shown.is_some_and(|shown| shown.starts_with(want)), "{shown:?}");
    }
}
