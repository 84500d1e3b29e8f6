//! Configuration as operators meet it: the example file, and what is said about faults.

use std::collections::BTreeSet;
use std::path::Path;

use ticketgate::config::{Config, reload};
use ticketgate::mail::Address;
use ticketgate::ticket::template::Values;

const EXAMPLE: &str = include_str!("../config/ticketgate.toml");

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, Path::new("t.toml")).map_err(|faults| faults.to_string().lines().map(str::to_owned).collect())
}

/// The example with the keys that it shows as comments: `# key = value`.
fn example_with_optional_keys() -> String {
    let is_key = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let shown = |line: &str| match line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) {
        Some((key, value)) if is_key(key) => format!("{key} = {value}"),
        _ if line.starts_with("# [") && line.ends_with(']') => line[2..].to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(shown).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_holds_the_defaults() {
    assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
    // Not `parse`, which would look for the certificate files.
    toml::from_str::<Config>(&example_with_optional_keys()).unwrap();
}

#[test]
fn the_example_shows_every_key() {
    let full = example_with_optional_keys();
    let table: toml::Table = full.parse().unwrap();
    let mut sections: Vec<(String, BTreeSet<String>)> = Vec::new();
    collect_sections(&table, "", &mut sections);
    assert!(sections.len() >= 8, "{sections:?}");
    for (section, shown) in sections {
        // A key that cannot be known makes the reader list those that are.
        let probe = format!("{section}\nzzzzzzzz = 1\n");
        let error = toml::from_str::<Config>(&probe).unwrap_err();
        let known: BTreeSet<String> = error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert!(error.message().starts_with("unknown field"), "{section}: {}", error.message());
        assert_eq!(shown, known, "keys of {section:?}: left those of the example, right those of the code");
    }
}

/// The headers of all sections, each with its keys.
fn collect_sections(table: &toml::Table, path: &str, sections: &mut Vec<(String, BTreeSet<String>)>) {
    let header = match path {
        "" => String::new(),
        "channel" | "queue" | "oauth" | "relay" | "dkim" | "smtp.listeners" | "submission.accounts" => {
            format!("[[{path}]]")
        }
        "channel.source" => "[[channel]]\n[channel.source]".into(),
        "relay.quota" => "[[relay]]\n[relay.quota]".into(),
        other => format!("[{other}]"),
    };
    sections.push((header, table.keys().cloned().collect()));
    for (key, value) in table {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(inner) => collect_sections(inner, &below, sections),
            toml::Value::Array(items) => {
                if let Some(toml::Value::Table(first)) = items.first() {
                    collect_sections(first, &below, sections);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn when_a_quota_gives_way_is_one_of_three_words() {
    let text =
        |word: &str| format!("[[relay]]\nname = \"hub\"\npreset = \"gmail\"\n[relay.quota]\ngive_way = \"{word}\"\n");
    for word in ["aligned", "always", "never"] {
        parse(&text(word)).unwrap();
    }
    let faults = parse(&text("sometimes")).unwrap_err();
    assert!(faults[0].starts_with("t.toml:5: relay.quota.give_way: \"sometimes\" is not known;"), "{faults:?}");
}

#[test]
fn faults_are_told_all_at_once_with_line_and_advice() {
    let text = r##"[server]
hostnam = "mx.example.com"
data_dir = 5

[smpt]
x = 1

[[queue]]
name = "Support"
colour = "blue"

[[channel]]
address = "support@example.com"
queue = "Suport"
auth_policy = "reject"
max_mail_bytes = "50 megs"

[[channel]]
address = "help@example.com"
aliases = ["SUPPORT@example.com", "nonsense"]
max_mail_byte = "5MB"

[admin]
request_timeout = 30
mode = "rw"
"##;
    let faults = parse(text).unwrap_err();
    let wanted = [
        "t.toml:2: server.hostnam: unknown key; did you mean \"hostname\"?",
        "t.toml:3: server.data_dir: the wrong kind of value: integer `5`; write text in quotes",
        "t.toml:5: smpt: unknown key;",
        "t.toml:10: queue.colour: \"blue\" is not a colour; write it as \"#rrggbb\"",
        "t.toml:14: channel.queue: there is no queue \"Suport\"; did you mean \"Support\"?",
        "t.toml:15: channel.auth_policy: \"reject\" is not known; ",
        "t.toml:16: channel.max_mail_bytes: \"50 megs\" is not a size; ",
        "t.toml:20: channel.aliases: \"SUPPORT@example.com\" is used by support@example.com already;",
        "t.toml:20: channel.aliases: \"nonsense\" is not an address: no \"@\" between",
        "t.toml:21: channel.max_mail_byte: unknown key; did you mean \"max_mail_bytes\"?",
        "t.toml:24: admin.request_timeout: 30 has no unit; write \"30s\" for seconds",
        "t.toml:25: admin.mode: \"rw\" is not a file mode; write it as \"0660\"",
    ];
    assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
    for (fault, want) in faults.iter().zip(wanted) {
        assert!(fault.starts_with(want), "{fault}\n  should begin with\n{want}");
    }
}

#[test]
fn single_faults() {
    let table = [
        ("[server\nx", "t.toml:1: file: "),
        ("[server]\nhostname = \"a b\"", "t.toml:2: server.hostname: \"a b\" is not a host name;"),
        (
            "[server]\ndefault_channel = \"supprt@localhost\"",
            "t.toml:2: server.default_channel: \"supprt@localhost\" is not",
        ),
        (
            "[server]\nintake_addresses = [\"support@localhost\"]",
            "t.toml:2: server.intake_addresses: \"support@localhost\" is used",
        ),
        (
            "[smtp]\nmax_recipients = \"ten\"",
            "t.toml:2: smtp.max_recipients: the wrong kind of value: string \"ten\"; write a whole number that is not negative",
        ),
        ("[store]\ncache_bytes = \"1kB\"", "t.toml:2: store.cache_bytes: 1kB is out of range; write 1MiB to 16GiB"),
        ("[log]\nlevel = \"loud\"", "t.toml:2: log.level: \"loud\" is not a level;"),
        ("[verify]\nexempt = [\"10.0.0.0/99\"]", "t.toml:2: verify.exempt: \"10.0.0.0/99\" is not a network; write"),
        (
            "[metrics]\nlisten = \"nowhere\"",
            "t.toml:2: metrics.listen: \"nowhere\" is not an address with a port; write it as \"192.0.2.1:25\"",
        ),
        // The key is there, and was told: it is not missing as well.
        (
            "[[smtp.listeners]]\nname = \"mx\"\nbind = \"localhost:25\"",
            "t.toml:3: smtp.listeners.bind: \"localhost:25\" is not an address with a port;",
        ),
        ("[[smtp.listeners]]\nname = \"mx\"", "t.toml:1: smtp.listeners: missing field `bind`;"),
        ("[verify.dns]\nname_servers = [\"9.9.9.9\"]", "t.toml:2: verify.dns.name_servers: \"9.9.9.9\" is not"),
        ("[[channel]]\nname = \"x\"", "t.toml:1: channel.address: the channel has no address;"),
        (
            "[[smtp.listeners]]\nname = \"mx\"\nbind = \"127.0.0.1:9725\"",
            "t.toml:3: smtp.listeners.bind: 127.0.0.1:9725 is used by metrics.listen",
        ),
        ("[tls]\ncertificate = \"/none.pem\"\nkey = \"/none.pem\"", "t.toml:1: tls: /none.pem: cannot be read"),
        (
            "[[smtp.listeners]]\nname = \"mx\"\nbind = \"[::]:465\"\ntls = \"implicit\"",
            "t.toml:1: smtp.listeners \"mx\": tls needs a certificate",
        ),
        ("[smtp]\nallow_from = [\"10.0.0.0/40\"]", "t.toml:2: smtp.allow_from: \"10.0.0.0/40\" is not a network;"),
        (
            &format!("[server]\ndata_dir = \"/{}\"", "d".repeat(100)),
            "t.toml:2: server.data_dir: the path of the admin socket, /ddd",
        ),
        // Numbers that no machine has: `check` let them pass, and the start panicked.
        (
            "[admin]\nmax_connections = 9223372036854775807",
            "t.toml:2: admin.max_connections: 9223372036854775807 is out of range; write 1 to 100000",
        ),
        ("[admin]\nmax_connections = 0", "t.toml:2: admin.max_connections: 0 is out of range;"),
        ("[verify]\nmax_concurrent = 0", "t.toml:2: verify.max_concurrent: 0 is out of range; write 1 to 10000"),
        ("[verify.dns]\nattempts = 0", "t.toml:2: verify.dns.attempts: 0 is out of range; write 1 to 10"),
        ("[smtp]\nidle_timeout = \"2d\"", "t.toml:2: smtp.idle_timeout: 2d is out of range; write "),
        ("[smtp]\nmax_message_bytes = \"2GiB\"", "t.toml:2: smtp.max_message_bytes: 2GiB is out of range; write at"),
        ("[loops]\nsuppress_within = \"9999w\"", "t.toml:2: loops.suppress_within: 9999w is out of range; write"),
        ("[smtp]\nallow_certificates = [\"a b\"]", "t.toml:2: smtp.allow_certificates: "),
        (
            "[people]\nagents = [\"Eve@x.example\"]\n[[channel]]\naddress = \"help@x.example\"\n[channel.source]\n\
             host = \"h\"\nuser = \"eve@x.example\"\npassword_file = \"/p\"",
            "t.toml:7: channel.source.user: \"Eve@x.example\" is listed as an agent;",
        ),
        (
            "[[channel]]\naddress = \"help@x.example\"\naliases = [\"info@x.example\"]\n\
             [[channel]]\naddress = \"sales@x.example\"\n[channel.source]\nhost = \"h\"\nuser = \"info@x.example\"",
            "t.toml:8: channel.source.user: \"info@x.example\" is used by the channel help@x.example;",
        ),
        (
            "[[oauth]]\nname = \"m\"\npreset = \"microsoft\"\nclient_id = \"c\"\ntenant = \"t\"\ncloud = \"us_gov\"\n\
             [[channel]]\naddress = \"help@x.example\"\n[channel.source]\npreset = \"microsoft365\"\noauth = \"m\"\nhost = \"outlook.office365.com\"",
            "t.toml:12: channel.source.host: outlook.office365.com is not in the cloud \"us_gov\" of the [[oauth]] \"m\"; \
             write host = \"outlook.office365.us\"",
        ),
        (
            "[[oauth]]\nname = \"m\"\npreset = \"microsoft\"\nclient_id = \"c\"\ntenant = \"t\"\ncloud = \"china\"\n\
             [[channel]]\naddress = \"help@x.example\"\n[channel.source]\npreset = \"microsoft365\"\noauth = \"m\"\n\
             [[relay]]\nname = \"r\"\npreset = \"exchange\"\nhost = \"smtp.office365.com\"",
            "t.toml:15: relay.host: smtp.office365.com is not in the cloud \"china\" of the mailboxes that it logs in as; \
             write host = \"smtp.partner.outlook.cn\", or leave it out",
        ),
        (
            "[[oauth]]\nname = \"m\"\npreset = \"microsoft\"\nclient_id = \"c\"\ntenant = \"t\"\n\
             [[oauth]]\nname = \"n\"\npreset = \"microsoft\"\nclient_id = \"c\"\ntenant = \"t\"\ncloud = \"us_gov\"\n\
             [[channel]]\naddress = \"help@x.example\"\n[channel.source]\npreset = \"microsoft365\"\noauth = \"m\"\n\
             [[channel]]\naddress = \"sales@x.example\"\n[channel.source]\npreset = \"microsoft365\"\noauth = \"n\"\n\
             [[relay]]\nname = \"r\"\npreset = \"exchange\"",
            "t.toml:24: relay.preset: its channels are in the clouds \"global\" and \"us_gov\", which do not share a server; \
             make a [[relay]] for each cloud",
        ),
        ("[[relay]]\nname = \"a b\"\nkind = \"maildir\"", "t.toml:2: relay.name: \"a b\" is no name for a relay;"),
        ("[[relay]]\nname = \"r\"", "t.toml:1: relay.host: the server is not named; add host"),
        (
            "[[relay]]\nname = \"r\"\npreset = \"gmail\"\nsecurity = \"none\"",
            "t.toml:4: relay.security: \"none\" would send the credential to smtp.gmail.com in clear;",
        ),
        (
            "[[relay]]\nname = \"r\"\npreset = \"exchange\"\nsecurity = \"opportunistic\"",
            "t.toml:4: relay.security: \"opportunistic\" would send",
        ),
        ("[[relay]]\nname = \"r\"\nhost = \"h\"\nuser = \"u\"", "t.toml:4: relay.user: it has no password; add"),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\nuser = \"u\"\npassword_file = \"/nowhere\"",
            "t.toml:5: relay.password_file: /nowhere: ",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\naccount = \"support@localhost\"",
            "t.toml:4: relay.account: \"support@localhost\" is not a channel with a mailbox;",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\nuser = \"u\"\npassword_file = \"/dev/null\"",
            "t.toml:5: relay.password_file: /dev/null: the file is empty; it should hold the password; check",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\n[relay.quota]\ngive_way_percent = 120",
            "t.toml:4: relay.quota: give_way_percent = 120 is out of range; write 0 to 100",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"smtp.b.example:587\"",
            "t.toml:3: relay.host: \"smtp.b.example:587\" is not a host name or an IP address; write host = \"smtp.b.example\" and port = 587",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"a b\"",
            "t.toml:3: relay.host: \"a b\" is not a host name or an IP address;",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\nport = 70000",
            "t.toml:4: relay.port: 70000 is out of range; write a whole number, 0 to 65535",
        ),
        ("[loops]\noverall = [10, 5]", "t.toml:2: loops.overall: the wrong kind of value: integer `10`; write a pair"),
        (
            "[[dkim]]\ndomain = \"example.com\"\nselector = \"s\"",
            "t.toml:1: dkim.key_file: no file is named; add key_file",
        ),
        ("[[relay]]\nname = \"r\"\nhost = \"h\"\nproxy = \"x\"", "t.toml:4: relay.proxy: "),
        ("[[relay]]\nname = \"r\"\nhost = \"h\"\nca_file = \"/nowhere\"", "t.toml:4: relay.ca_file: "),
        ("[[relay]]\nname = \"r\"\nkind = \"direct\"\ndane = true", "t.toml:4: relay.dane: DANE needs a name server"),
        (
            "[[relay]]\nname = \"r\"\nkind = \"direct\"\nhost = \"h\"",
            "t.toml:4: relay.host: a relay of kind \"direct\" has no use for it; take it out",
        ),
        ("[[relay]]\nname = \"r\"\nhost = \"h\"\nconcurrency = 0", "t.toml:4: relay.concurrency: 0 is out of range;"),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\ncommand_timeout = \"2h\"",
            "t.toml:4: relay.command_timeout: 2h is out of range; write 1s to 1h",
        ),
        (
            "[[relay]]\nname = \"r\"\nkind = \"direct\"\ndkim = true",
            "t.toml:4: relay.dkim: there is no key to sign with;",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\n[[relay]]\nname = \"r\"\nhost = \"i\"",
            "t.toml:5: relay.name: \"r\" is there twice;",
        ),
        (
            "[[dkim]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"/nowhere\"",
            "t.toml:4: dkim.key_file: /nowhere: ",
        ),
        ("[brand]\nfields = [\"X Y: z\"]", "t.toml:2: brand.fields: \"X Y\" cannot be a field here;"),
        ("[brand]\nfields = [\"Bcc: z\"]", "t.toml:2: brand.fields: \"Bcc\" cannot be a field here;"),
        (
            "[brand]\nfields = [\"X-Y: {{mail.id}}\"]",
            "t.toml:2: brand.fields: \"{{mail.id}}\" is no placeholder here; known",
        ),
        (
            "[brand]\nmust_survive = [\"Message-ID\"]",
            "t.toml:2: brand.must_survive: \"Message-ID\" cannot be a field here;",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\nlost_headers = \"ignore\"",
            "t.toml:4: relay.lost_headers: \"ignore\" is not known;",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\nprobe_every = \"1m\"",
            "t.toml:4: relay.probe_every: 1m is out of range; write 10m to",
        ),
        (
            "[[relay]]\nname = \"r\"\nkind = \"maildir\"\nprobe_every = \"1d\"",
            "t.toml:4: relay.probe_every: no mail of a Maildir comes home; take it out",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\nprobe_patience = \"0s\"",
            "t.toml:4: relay.probe_patience: 0s is out of range; write 1s to",
        ),
        (
            "[[relay]]\nname = \"r\"\nhost = \"h\"\nprobe_channel = \"supprt@localhost\"",
            "t.toml:4: relay.probe_channel: \"supprt@localhost\" is not a channel; did you mean \"support@localhost\"?",
        ),
        ("[brand]\nautomatic_fields = [\"X-Y\"]", "t.toml:2: brand.automatic_fields: \"X-Y\" is not a header field;"),
        ("[replies]\nwait = \"30s\"", "t.toml:2: replies.wait: 30s is not below admin.request_timeout, 30s;"),
        ("[replies]\nmax_mail_bytes = \"1GB\"", "t.toml:2: replies.max_mail_bytes: 1GB is out of range;"),
        ("[replies]\nmax_recipients = 0", "t.toml:2: replies.max_recipients: 0 is out of range;"),
        ("[reports]\nmax_returned_bytes = \"1GB\"", "t.toml:2: reports.max_returned_bytes: 1GB is out of range;"),
        ("[reports]\ndefault_notify = [\"success\"]", "t.toml:2: reports.default_notify: \"success\" is not known;"),
        (
            "[templates]\nsignature = \"/none/at/all.txt\"",
            "t.toml:2: templates.signature: /none/at/all.txt cannot be read (",
        ),
        ("[secrets]\nkey_file = \"/none/at/all\"", "t.toml:2: secrets.key_file: /none/at/all: No such file"),
        ("[secrets]\nkey_file = \"/dev/null\"", "t.toml:2: secrets.key_file: /dev/null: "),
        // A device has no end.
        ("[secrets]\nkey_file = \"/dev/zero\"", "t.toml:2: secrets.key_file: /dev/zero: it is longer than "),
        (
            "[tls]\ncertificate = \"/dev/zero\"\nkey = \"/none\"",
            "t.toml:1: tls: /dev/zero: cannot be read: it is longer than ",
        ),
        (
            "[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey_file = \"/dev/zero\"",
            "t.toml:4: dkim.key_file: /dev/zero: it is longer than ",
        ),
        ("channel = []", "t.toml:1: channel: there is no channel;"),
        (
            "[outbox]\ndefault_relay = \"sandbx\"",
            "t.toml:2: outbox.default_relay: there is no relay \"sandbx\"; did you",
        ),
        (
            "[outbox]\nsandbox = \"out\"\n[[relay]]\nname = \"out\"\nkind = \"direct\"",
            "t.toml:2: outbox.sandbox: relay \"out\" sends mail to people; name a [[relay]] of kind",
        ),
        ("[outbox]\nretry_waits = []", "t.toml:2: outbox.retry_waits: it has 0 waits; write 1 to 50"),
        (
            "[outbox]\nretry_waits = [\"1m\", \"2d\"]",
            "t.toml:2: outbox.retry_waits: 2d is out of range; write 1 to 50 durations of 1s to 1d each",
        ),
        ("[outbox]\ngive_up = \"1s\"", "t.toml:2: outbox.give_up: 1s is out of range; write 1m to 4w"),
        ("[outbox]\nconcurrency = 0", "t.toml:2: outbox.concurrency: 0 is out of range; write 1 to 10000"),
        ("[outbox]\nmemory_bytes = \"1kB\"", "t.toml:2: outbox.memory_bytes: 1kB is out of range; write 1MiB to 4GiB"),
        (
            "[loops]\nnever_send_to = [\"*@*\"]",
            "t.toml:2: loops.never_send_to: \"*@*\" is not a pattern: \"*@*\" would stop all mail;",
        ),
        ("[loops]\noverall = [[601, 5]]", "t.toml:2: loops.overall: [601, 5] is out of range; write pairs of minutes"),
        (
            "[[channel]]\naddress = \"a@b.example\"\nrelay = \"nowhere\"",
            "t.toml:3: channel.relay: there is no relay \"nowhere\";",
        ),
    ];
    for (text, want) in table {
        let faults = parse(text).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{text}\n{faults:#?}\n{want}");
    }
}

#[test]
fn a_file_that_is_no_text_is_told_and_not_read_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, b"[server]\n# caf\xe9\n").unwrap();
    let told = |file: &Path| Config::load(Some(file)).unwrap_err().to_string();
    assert!(told(&file).ends_with("c.toml:2: file: it is not text in UTF-8 here; save the file as UTF-8"));
    assert!(told(Path::new("/dev/zero")).contains("/dev/zero: file: it is larger than 4MiB; "));
    assert!(told(&dir.path().join("none")).contains("none: file: it cannot be read ("));
}

#[test]
fn faults_of_oauth() {
    let source = |rest: &str| {
        format!("[[channel]]\naddress = \"a@b.example\"\n[channel.source]\nhost = \"imap.b.example\"\n{rest}")
    };
    let oauth = "\n[[oauth]]\nname = \"idp\"\nclient_id = \"x\"\nissuer = \"https://id.example\"\n";
    let table = [
        (
            source("oauth = \"idq\"") + oauth,
            "t.toml:5: channel.source.oauth: there is no [[oauth]] \"idq\"; did you mean \"idp\"?",
        ),
        (source("oauth = \"idp\""), "t.toml:5: channel.source.oauth: there is no [[oauth]] \"idp\"; add an [[oauth]]"),
        (
            source("oauth = \"idp\"\npassword_file = \"/x\"") + oauth,
            "t.toml:6: channel.source.password_file: there is oauth as well; keep one of the two",
        ),
        (
            source("oauth = \"idp\"\nflow = \"app\"") + oauth,
            "t.toml:6: channel.source.flow: \"app\" needs an application that can prove who it is, and \"idp\" cannot;",
        ),
        (source("flow = \"device\""), "t.toml:5: channel.source.flow: it needs oauth;"),
        (source("consent_as = \"c@b.example\""), "t.toml:5: channel.source.consent_as: it needs oauth;"),
        (
            source("oauth = \"idp\"\nconsent_as = \"c\"") + oauth,
            "t.toml:6: channel.source.consent_as: \"c\" is not an address",
        ),
        (
            source("oauth = \"idp\"\nmechanism = \"plain\"") + oauth,
            "t.toml:6: channel.source.mechanism: it sends a password",
        ),
        (source("mechanism = \"xoauth2\""), "t.toml:5: channel.source.mechanism: it needs oauth;"),
        (
            format!("{oauth}redirect_url = \"https://desk.example/back\""),
            "t.toml:6: oauth.redirect_url: it is public, and nobody listens for it;",
        ),
        (format!("{oauth}{oauth}"), "t.toml:8: oauth.name: \"idp\" is there twice;"),
        (
            "[accounts]\nrefresh_before = \"2h\"".into(),
            "t.toml:2: accounts.refresh_before: 2h is out of range; write 1s to 1h",
        ),
        ("[accounts]\nmax_authorisations = 0".into(), "t.toml:2: accounts.max_authorisations: 0 is out of range;"),
        (
            "[accounts]\nredirect_listen = \"127.0.0.1:9725\"".into(),
            "t.toml:2: accounts.redirect_listen: 127.0.0.1:9725 is used by metrics.listen already;",
        ),
    ];
    for (text, want) in table {
        let faults = parse(&text).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{text}\n{faults:#?}\n{want}");
    }
    // Nobody has to use what is registered, and the flow is chosen by what the provider is.
    assert_eq!(parse(oauth).unwrap().setup().providers[0].name, "idp");
    let used =
        parse(&(source("oauth = \"idp\"\nuser = \"shared@b.example\"\nconsent_as = \"c@b.example\"") + oauth)).unwrap();
    assert_eq!(used.setup().accounts[0].consenting(), ["c@b.example", "shared@b.example"]);
}

#[test]
fn templates_are_checked_with_their_own_lines() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let bad = write("bad.txt", "Hello {{requester.nam}},\n\n{{ticket.number}} {{zzz}}\n{{open\n");
    let text = format!("[[channel]]\naddress = \"a@b.example\"\nsignature = \"{bad}\"");
    let faults = parse(&text).unwrap_err();
    let wanted = [
        format!(
            "t.toml:3: channel.signature: {bad}:1: there is no placeholder {{{{requester.nam}}}}; did you mean {{{{requester.name}}}}?"
        ),
        format!("t.toml:3: channel.signature: {bad}:3: there is no placeholder {{{{zzz}}}}; known are ticket.number, "),
        format!("t.toml:3: channel.signature: {bad}:4: \"{{{{\" has no \"}}}}\" on its line; "),
    ];
    assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
    for (fault, want) in faults.iter().zip(&wanted) {
        assert!(fault.starts_with(want), "{fault}\n  should begin with\n{want}");
    }
    let long = write("long.txt", &"x".repeat(70_000));
    let faults = parse(&format!("[templates]\nacknowledgement = \"{long}\"")).unwrap_err();
    assert!(faults[0].contains(":1: it is longer than 65536 bytes; shorten it"), "{faults:?}");

    for (name, text) in [("none.txt", " \n"), ("subject.txt", "Subject: Thanks\n\n"), ("line.txt", "Subject: Thanks")] {
        let path = write(name, text);
        let faults =
            parse(&format!("[[channel]]\naddress = \"a@b.example\"\nacknowledgement = \"{path}\"")).unwrap_err();
        let want = format!("t.toml:3: channel.acknowledgement: {path} has no text to send; write one");
        assert!(faults.len() == 1 && faults[0].starts_with(&want), "{faults:?}");
    }

    let good = write("good.txt", "{{author.name}}\n{{channel.name}}\n");
    let config = parse(&format!("[templates]\nsignature = \"{good}\"")).unwrap();
    let values = Values { author_name: "Eve".into(), channel_name: "Help".into(), ..Values::default() };
    let channel = Address::parse("support@localhost").unwrap();
    let letters = config.letters().unwrap();
    assert_eq!(letters.signature(&channel, &values).as_deref(), Some("Eve\nHelp\n"));
    assert!(letters.acknowledgement(&channel, &values).unwrap().subject.is_some());
}

#[test]
fn what_a_reload_changes() {
    let old = Config::default();
    let table = [
        ("", vec![], vec![]),
        ("[log]\nlevel = \"debug\"\nformat = \"json\"", vec!["log.level"], vec!["log.format"]),
        ("[[channel]]\naddress = \"a@b.example\"", vec!["channel"], vec![]),
        ("[[relay]]\nname = \"r\"\nhost = \"h\"", vec!["relay"], vec![]),
        (
            "[smtp]\nmax_recipients = 7\n[[smtp.listeners]]\nname = \"mx\"\nbind = \"[::]:25\"",
            vec!["smtp"],
            vec!["smtp.listeners"],
        ),
        ("[store]\ngroup_max = 5\n[metrics]\nenabled = false", vec![], vec!["store", "metrics"]),
    ];
    for (text, live, restart) in table {
        let changes = reload::changes(&old, &parse(text).unwrap());
        assert_eq!((changes.live, changes.restart), (live, restart), "{text}");
    }
}

#[test]
fn channels_get_their_queue_and_name() {
    let text = "[[queue]]\nname = \"Sales\"\n[[channel]]\naddress = \"sales@example.com\"";
    let directory = parse(text).unwrap().directory();
    let channel = directory.channel_for(&Address::parse("SALES+x@example.com").unwrap()).unwrap();
    assert_eq!((channel.queue.as_str(), channel.name.as_str()), ("Sales", "Sales"));
}

#[test]
fn a_mailbox_and_its_relay_are_in_the_cloud_of_their_provider() {
    let table = [
        ("global", "outlook.office365.com", "smtp.office365.com"),
        ("us_gov", "outlook.office365.us", "smtp.office365.us"),
        ("us_gov_dod", "outlook-dod.office365.us", "outlook-dod.office365.us"),
        ("china", "partner.outlook.cn", "smtp.partner.outlook.cn"),
    ];
    for (cloud, imap, smtp) in table {
        // A relay that names an account, one that logs in as whoever sends by it, and one that mail leaves by where nothing
        // names a relay: not by a sandbox.
        for (key, relay) in [("", "account = \"help@x.example\""), ("relay = \"gov\"", ""), ("", "")] {
            let text = format!(
                "[[oauth]]\nname = \"m\"\npreset = \"microsoft\"\nclient_id = \"c\"\ntenant = \"t\"\ncloud = \"{cloud}\"\n\
                 [[channel]]\naddress = \"help@x.example\"\n{key}\n[channel.source]\npreset = \"microsoft365\"\n\
                 oauth = \"m\"\n[[channel]]\naddress = \"other@x.example\"\n[channel.source]\nhost = \"h\"\n\
                 [[relay]]\nname = \"other\"\nkind = \"maildir\"\n\
                 [[relay]]\nname = \"gov\"\npreset = \"microsoft365\"\n{relay}"
            );
            let config = parse(&text).unwrap();
            let source = config.channels[0].source.as_ref().unwrap();
            assert_eq!((source.host(), config.relays[1].host()), (Some(imap), Some(smtp)), "{cloud} {key}");
        }
    }
}
