//! How many mails of 10 KB the store accepts durably a second, with 1, 10 and 100 writers.

use std::time::Instant;

use ticketgate::clock::Clock;
use ticketgate::mail::auth::AuthResults;
use ticketgate::mail::origin::OriginKind;
use ticketgate::mail::{Address, Envelope, MailId, Origin};
use ticketgate::store::{Config, Delivery, Incoming, Store};

/// How many mails each round takes, unless the first argument says otherwise.
const MAILS: usize = 10_000;

async fn accept(store: &Store, bytes: &[u8], clock: &Clock) -> Result<(), String> {
    let id = MailId::fresh(clock.now());
    let mut body = store.body(id, 1 << 20);
    body.push(bytes).await.map_err(|error| error.to_string())?;
    let body = body.finish().await.map_err(|error| error.to_string())?;
    let to = Address::parse("support@example.com").map_err(|error| error.to_string())?;
    let envelope = Envelope { mail_from: Some(to.clone()), rcpt_to: vec![to.clone()] };
    let origin = Origin {
        kind: OriginKind::Smtp,
        peer: "127.0.0.1".into(),
        helo: None,
        tls: None,
        client_certificate: None,
        auth: AuthResults::default(),
        remote: None,
    };
    let deliveries = vec![Delivery { channel: to.clone(), rcpt_to: vec![to] }];
    let mail =
        Incoming { id, received_at: clock.now(), envelope, origin, deliveries, review: false, outgoing: None, body };
    store.spool(mail).await.map(drop).map_err(|error| error.to_string())
}

fn main() -> Result<(), String> {
    let mails = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(MAILS);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    println!("writers  mails/s  mails/sync  CPU s/1,000");
    for writers in [1, 10, 100] {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let clock = Clock::system();
        let opened = Store::open(dir.path(), &Config::default(), clock.clone());
        let (store, _) = opened.map_err(|error| error.to_string())?;
        let (begun, before) = (Instant::now(), cpu_seconds());
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|_| {
                    let (store, clock) = (store.clone(), clock.clone());
                    tokio::spawn(async move {
                        let bytes = vec![b'x'; 10_000];
                        for _ in 0..mails / writers {
                            accept(&store, &bytes, &clock).await?;
                        }
                        Ok::<(), String>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await.map_err(|error| error.to_string())??;
            }
            Ok::<(), String>(())
        })?;
        let (seconds, stats) = (begun.elapsed().as_secs_f64(), store.stats());
        let (rate, share) = (mails as f64 / seconds, stats.records as f64 / stats.syncs as f64);
        let cpu = (cpu_seconds() - before) * 1000.0 / mails as f64;
        println!("{writers:>7}  {rate:>7.0}  {share:>10.1}  {cpu:>11.3}");
    }
    Ok(())
}

/// User and system time of this process; the kernel counts in hundredths of a second (proc_pid_stat(5)).
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
