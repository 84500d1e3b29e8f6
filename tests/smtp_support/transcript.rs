//! Reads and runs transcripts; tests/transcripts/README.md says how they are written.

use ticketgate::smtp::TlsMode;

use super::{Account, Bed, Client, Proof, store_state};

/// Runs one transcript against a server of its own.
pub async fn run(name: &str, text: &str) {
    let (header, body) = text.split_once("---\n").unwrap_or_else(|| panic!("{name}: no --- line"));
    let settings = of(header, "set");
    let bed = Bed::start(&settings.join("\n"), |setup| {
        for mode in of(header, "listener") {
            setup.mode = match mode {
                "plain" => TlsMode::Plain,
                "starttls" => TlsMode::StartTls,
                "required" => TlsMode::Required,
                "implicit" => TlsMode::Implicit,
                other => panic!("{name}: no listener {other:?}"),
            };
            setup.with_tls();
        }
        for network in of(header, "proxy_from") {
            setup.proxy_from = Some(vec![network.parse().unwrap()]);
        }
        for words in of(header, "account") {
            let words: Vec<&str> = words.split_whitespace().collect();
            let [kind, name, secret, sender] = words[..] else { panic!("{name}: account {words:?}") };
            let secret = secret.to_owned();
            let proof = if kind == "token" { Proof::Token(secret) } else { Proof::Password(secret) };
            setup.accounts.push(Account { name: name.into(), sender: sender.into(), proof });
        }
        for logins in of(header, "failed_logins") {
            setup.failed_logins = logins.parse().unwrap();
        }
        for network in of(header, "trusted") {
            setup.trusted = Some(network.parse().unwrap());
        }
        setup.intake = toml::from_str(&of(header, "intake").join("\n")).unwrap();
        for words in of(header, "store") {
            setup.state = store_state(words);
        }
        for spf in of(header, "spf") {
            setup.spf = spf.split_once(' ').map(|(domain, record)| (domain.to_owned(), record.to_owned()));
        }
    })
    .await;
    let mut client = bed.connect().await;
    let mut to_send = Vec::new();
    for (number, line) in body.lines().enumerate() {
        let here = format!("{name}, line {} after ---: {line}", number + 1);
        let (kind, rest) = line.split_at(line.len().min(2));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        if !kind.starts_with('C') && !to_send.is_empty() {
            client.write(&std::mem::take(&mut to_send)).await;
        }
        match kind {
            "C:" => to_send.extend([unescape(rest), b"\r\n".to_vec()].concat()),
            "C|" => to_send.extend(unescape(rest)),
            "C*" => {
                let (count, text) = rest.split_once(' ').unwrap();
                to_send.extend(unescape(text).repeat(count.parse().unwrap()));
            }
            "S:" => hear(&mut client, rest, &here).await,
            "S!" => assert_eq!(client.line().await, None, "{here}"),
            "T!" => drop(client.handshake(None).await.unwrap()),
            "M:" => assert_eq!(first_mail(&bed), rest, "{here}"),
            "O:" => assert_eq!(first_outgoing(&bed), rest, "{here}"),
            "R:" => assert_eq!(first_refused(&bed).await, rest, "{here}"),
            "P:" => assert!(bed.metrics().lines().any(|line| line == rest), "{here}"),
            "N:" => assert_eq!(bed.accepted().len().to_string(), rest, "{here}"),
            "# " | "" => {}
            _ => panic!("{here}: not understood"),
        }
    }
}

async fn hear(client: &mut Client, want: &str, here: &str) {
    let got = client.line().await.unwrap_or_else(|| panic!("{here}: the connection is closed"));
    match want.strip_suffix('*') {
        Some(start) => assert!(got.starts_with(start), "{here}: heard {got:?}"),
        None => assert_eq!(got, want, "{here}"),
    }
}

/// Looks at the oldest accepted mail: peer, HELO, sender, recipients, and its text.
fn first_mail(bed: &Bed) -> String {
    let mail = bed.next_accepted().expect("no mail was accepted");
    let from = mail.envelope.mail_from.map(|address| address.to_string()).unwrap_or_default();
    let to = mail.envelope.rcpt_to.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let helo = mail.origin.helo.unwrap_or_default();
    let tls = if mail.origin.tls.is_some() { " tls" } else { "" };
    format!("{} {helo}{tls} <{from}> {to} {}", mail.origin.peer, mail.body.read().unwrap().escape_ascii())
}

/// Looks at the oldest record of a refused mail: why, and how large it was.
/// What is known of the oldest mail that leaves, and its bytes behind the trace.
fn first_outgoing(bed: &Bed) -> String {
    let Some(mail) = bed.next_accepted() else { return "none".into() };
    let Some(outgoing) = mail.outgoing else { return "it does not leave".into() };
    let sender = mail.envelope.mail_from.as_ref().map(ToString::to_string).unwrap_or_default();
    let dashed = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let recipients: Vec<String> = outgoing
        .recipients
        .iter()
        .map(|to| format!("{} {} {}", to.address, dashed(&to.notify), dashed(&to.orcpt)))
        .collect();
    let body = mail.body.read().unwrap();
    let text = String::from_utf8_lossy(&body);
    let behind = text.split_once("2026 11:06:40 +0000\r\n").map_or("no trace", |(_, behind)| behind);
    format!(
        "{} {} {} <{sender}> {} {} {} {}",
        outgoing.author,
        mail.deliveries[0].channel,
        outgoing.class.as_str(),
        dashed(&outgoing.ret),
        dashed(&outgoing.envid),
        recipients.join(" "),
        behind.escape_default()
    )
}

async fn first_refused(bed: &Bed) -> String {
    let mail = bed.next_refused().await;
    format!("{} {} octets", mail.refused.map_or("", |reason| reason.code()), mail.size)
}

fn of<'a>(header: &'a str, key: &str) -> Vec<&'a str> {
    header.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).collect()
}

/// `\r`, `\n`, `\0`, `\\` and `\xNN`; everything else stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        out.push(match octet {
            b'\\' => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b'0' => 0,
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            other => other,
        });
    }
    out
}
