//! What no single key can be wrong with: keys that do not fit each other or the machine.

use std::collections::HashMap;
use std::time::Duration;

use super::fault::Fault;
use super::places::Places;
use super::read::meant;
use super::{ChannelConfig, Config};
use crate::mail::Address;
use crate::store::HEAD;
use crate::units::{show_bytes, show_duration};

/// The smallest and the largest limit for a mail that makes sense: below, no mail with a picture comes through; above,
/// no server sends it.
const MAIL_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(1 << 30);

/// The longest path of a Unix socket (unix(7): 108 octets with the NUL behind it).
const MAX_SOCKET_PATH: usize = 107;

/// Adds the faults of a configuration.
pub(super) fn check(config: &Config, places: &Places, faults: &mut Vec<Fault>) {
    let mut checker = Checker { places, faults };
    checker.server(config);
    checker.queues(config);
    checker.channels(config);
    checker.people(config);
    checker.sources(config);
    checker.relays(config);
    checker.clouds(config);
    checker.dkim(config);
    checker.providers(config);
    checker.letters(config);
    checker.replies(config);
    checker.reports(config);
    checker.smtp(config);
    checker.submission(config);
    checker.tls(config);
    checker.secrets(config);
    checker.ports(config);
    checker.store(config);
    checker.filing(config);
    checker.outbox(config);
    checker.loops(config);
    checker.admin(config);
    checker.limits(config);
}

pub(super) struct Checker<'a> {
    places: &'a Places,
    faults: &'a mut Vec<Fault>,
}

impl Checker<'_> {
    /// Notes a fault at a path such as `["channel", "0", "address"]`.
    pub(super) fn wrong(&mut self, path: &[&str], wrong: &str, advice: &str) {
        let shown: Vec<&str> = path.iter().copied().filter(|part| part.parse::<usize>().is_err()).collect();
        self.faults.push(Fault::new(self.places.line_of(path), &shown.join("."), wrong, advice));
    }

    fn server(&mut self, config: &Config) {
        let server = &config.server;
        let label = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if server.hostname.len() > 253 || !server.hostname.split('.').all(label) {
            let wrong = format!("\"{}\" is not a host name", server.hostname);
            self.wrong(&["server", "hostname"], &wrong, "write the name that mail servers know this host by");
        }
        if server.data_dir.as_os_str().is_empty() {
            self.wrong(&["server", "data_dir"], "no directory is named", "name the directory for the data");
        }
        if let Some(default) = &server.default_channel {
            let same = |channel: &&ChannelConfig| channel.address.eq_ignore_ascii_case(default);
            if !config.channels.iter().any(|channel| same(&channel)) {
                let known = config.channels.iter().map(|channel| channel.address.as_str());
                let advice = meant(default, known, "name the address of a [[channel]]");
                self.wrong(&["server", "default_channel"], &format!("\"{default}\" is not a channel"), &advice);
            }
        }
    }

    fn queues(&mut self, config: &Config) {
        if config.queues.is_empty() {
            self.wrong(&["queue"], "there is no queue", "add a [[queue]] with a name");
        }
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (index, queue) in config.queues.iter().enumerate() {
            let at = index.to_string();
            if queue.name.trim().is_empty() || queue.name.len() > 100 {
                self.wrong(&["queue", &at, "name"], "the name is empty or over 100 bytes long", "give it a short name");
            } else if seen.insert(queue.name.to_lowercase(), index).is_some() {
                self.wrong(
                    &["queue", &at, "name"],
                    &format!("\"{}\" is there twice", queue.name),
                    "rename one of them",
                );
            }
            let digits = queue.colour.strip_prefix('#').unwrap_or_default();
            if !matches!(digits.len(), 3 | 6) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let wrong = format!("\"{}\" is not a colour", queue.colour);
                self.wrong(&["queue", &at, "colour"], &wrong, "write it as \"#rrggbb\"");
            }
        }
    }

    fn channels(&mut self, config: &Config) {
        if config.channels.is_empty() {
            self.wrong(&["channel"], "there is no channel", "add a [[channel]] with an address");
        }
        let mut owners: HashMap<String, String> = HashMap::new();
        for (index, channel) in config.channels.iter().enumerate() {
            let at = index.to_string();
            if channel.address.is_empty() {
                self.wrong(&["channel", &at, "address"], "the channel has no address", "add address = \"…\"");
                continue;
            }
            self.address(&["channel", &at, "address"], &channel.address, &channel.address, &mut owners);
            for alias in &channel.aliases {
                self.address(&["channel", &at, "aliases"], alias, &channel.address, &mut owners);
            }
            self.channel_queue(config, channel, &at);
            if !MAIL_BYTES.contains(&channel.max_mail_bytes) {
                let (least, most) = (show_bytes(*MAIL_BYTES.start()), show_bytes(*MAIL_BYTES.end()));
                let wrong = format!("{} is out of range", show_bytes(channel.max_mail_bytes));
                self.wrong(&["channel", &at, "max_mail_bytes"], &wrong, &format!("write {least} to {most}"));
            }
        }
        for intake in &config.server.intake_addresses {
            self.address(&["server", "intake_addresses"], intake, "intake_addresses", &mut owners);
        }
    }

    fn channel_queue(&mut self, config: &Config, channel: &ChannelConfig, at: &str) {
        let Some(name) = &channel.queue else { return };
        if config.queues.iter().any(|queue| &queue.name == name) {
            return;
        }
        let known = config.queues.iter().map(|queue| queue.name.as_str());
        let advice = meant(name, known, "add a [[queue]] with this name");
        self.wrong(&["channel", at, "queue"], &format!("there is no queue \"{name}\""), &advice);
    }

    /// One address belongs to one channel only (R3).
    fn address(&mut self, path: &[&str], text: &str, owner: &str, owners: &mut HashMap<String, String>) {
        match Address::parse(text) {
            Err(error) => {
                self.wrong(path, &format!("\"{text}\" is not an address: {error}"), "write it as local@domain");
            }
            Ok(address) => {
                if let Some(other) = owners.insert(address.lookup(), owner.to_owned()) {
                    let wrong = format!("\"{text}\" is used by {other} already");
                    self.wrong(path, &wrong, "an address has one use only: take out one of the two");
                }
            }
        }
    }

    /// The room's own checks; each begins with the key that it is about, such as `smtp.listeners "mx": …`.
    fn smtp(&mut self, config: &Config) {
        for said in config.smtp.faults(config.tls.as_ref()) {
            let (field, said) = said.split_once(": ").unwrap_or(("smtp", &said));
            let key = field.split([' ', ':']).next().unwrap_or(field);
            let path: Vec<&str> = key.split('.').collect();
            let line =
                self.places.line_of(&path).or_else(|| self.places.line_of(&[path[0], path[path.len() - 1], "0"]));
            self.faults.push(Fault { line, field: field.into(), said: said.into() });
        }
    }

    /// Reads the certificate files, so that a wrong path is found before the daemon starts.
    fn tls(&mut self, config: &Config) {
        let Some(tls) = &config.tls else { return };
        if let Err(error) = crate::net::tls::Acceptor::load(tls) {
            self.wrong(&["tls"], &error.to_string(), "check the paths, that they are PEM, and who may read them");
        }
    }

    /// Reads the key file of the secrets at rest, without which there is no start.
    fn secrets(&mut self, config: &Config) {
        if let Err(error) = crate::store::vault::check_key_file(&config.secrets) {
            let advice = "write 64 hexadecimal digits into it (`openssl rand -hex 32`) that only the daemon may read";
            self.wrong(&["secrets", "key_file"], &error.to_string(), advice);
        }
    }

    /// Two listeners cannot have one address. Port 0 asks the system for a free one.
    fn ports(&mut self, config: &Config) {
        let mut users: HashMap<std::net::SocketAddr, String> = HashMap::new();
        let mut uses = Vec::new();
        let redirects = ["accounts", "redirect_listen"];
        // First, since most files leave it at its default: a fault then has the line of the listener.
        if config.metrics.enabled {
            uses.push((config.metrics.listen, "metrics.listen".to_owned(), String::new()));
        }
        if let Some(address) = config.accounts.redirect_listen {
            uses.push((address, "accounts.redirect_listen".to_owned(), "accounts".to_owned()));
        }
        for (index, listener) in config.smtp.listeners.iter().enumerate() {
            uses.push((listener.bind, format!("smtp.listeners \"{}\"", listener.name), index.to_string()));
        }
        let submission = config.submission.listeners.iter().enumerate();
        uses.extend(submission.map(|(index, listener)| {
            (listener.bind, format!("submission.listeners \"{}\"", listener.name), format!("s{index}"))
        }));
        for (address, user, index) in uses {
            if address.port() == 0 {
                continue;
            }
            if let Some(other) = users.insert(address, user) {
                let metrics = ["metrics", "listen"];
                let (section, at) = match index.strip_prefix('s') {
                    Some(at) => ("submission", at),
                    None => ("smtp", index.as_str()),
                };
                let listener = [section, "listeners", at, "bind"];
                let path: &[&str] = match index.as_str() {
                    "" => &metrics,
                    "accounts" => &redirects,
                    _ => &listener,
                };
                self.wrong(path, &format!("{address} is used by {other} already"), "give it another port");
            }
        }
    }

    fn store(&mut self, config: &Config) {
        let store = &config.store;
        let ranges = [
            ("segment_bytes", store.segment_bytes, 1 << 20, 2 << 30),
            ("inline_bytes", store.inline_bytes, 1 << 10, 16 << 20),
            ("low_water_bytes", store.low_water_bytes, 0, 1 << 40),
            ("ballast_bytes", store.ballast_bytes, 0, 1 << 30),
            ("cache_bytes", store.cache_bytes, 1 << 20, 16 << 30),
            ("index_buffer_bytes", store.index_buffer_bytes, 64 << 10, 1 << 30),
        ];
        for (key, bytes, least, most) in ranges {
            if !(least..=most).contains(&bytes) {
                let wrong = format!("{} is out of range", show_bytes(bytes));
                self.wrong(&["store", key], &wrong, &format!("write {} to {}", show_bytes(least), show_bytes(most)));
            }
        }
        if !(1..=65_536).contains(&store.group_max) {
            let wrong = format!("{} is out of range", store.group_max);
            self.wrong(&["store", "group_max"], &wrong, "write 1 to 65536");
        }
    }

    fn filing(&mut self, config: &Config) {
        let header = config.intake.max_header_bytes;
        let most = (HEAD - 1) as u64;
        if !(16 << 10..=most).contains(&header) {
            let wrong = format!("{} is out of range", show_bytes(header));
            self.wrong(&["intake", "max_header_bytes"], &wrong, &format!("write 16KiB to {}", show_bytes(most)));
        }
        let counts = [
            ("intake", "max_received", config.intake.max_received, 10, 1000),
            ("filing", "batch", config.filing.batch, 1, 4096),
            ("filing", "max_parts", config.filing.max_parts, 10, 100_000),
            ("filing", "max_depth", config.filing.max_depth, 5, 1000),
        ];
        for (section, key, count, least, most) in counts {
            if !(least..=most).contains(&count) {
                self.wrong(&[section, key], &format!("{count} is out of range"), &format!("write {least} to {most}"));
            }
        }
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(600));
        if !(shortest..=longest).contains(&config.filing.parse_timeout) {
            let wrong = format!("{} is out of range", show_duration(config.filing.parse_timeout));
            self.wrong(&["filing", "parse_timeout"], &wrong, "write 100ms to 10m");
        }
        if config.filing.interval > Duration::from_secs(10) {
            let wrong = format!("{} is out of range", show_duration(config.filing.interval));
            self.wrong(&["filing", "interval"], &wrong, "write 0s to 10s");
        }
        if config.filing.patience > Duration::from_secs(600) {
            let wrong = format!("{} is out of range", show_duration(config.filing.patience));
            self.wrong(&["filing", "patience"], &wrong, "write 0s to 10m");
        }
    }

    fn admin(&mut self, config: &Config) {
        if let Err(said) = config.admin.socket_mode() {
            self.wrong(&["admin", "mode"], &said, "write it as \"0660\"");
        }
        let socket = config.socket_path();
        let (length, key) = (socket.as_os_str().len(), config.admin.socket.as_ref().map(|_| ["admin", "socket"]));
        if length > MAX_SOCKET_PATH {
            let wrong = format!("the path of the admin socket, {}, has {length} bytes", socket.display());
            let advice = format!("set admin.socket to a path of at most {MAX_SOCKET_PATH} bytes");
            self.wrong(&key.unwrap_or(["server", "data_dir"]), &wrong, &advice);
        }
        if let Err(said) = crate::logging::check_level(&config.log.level) {
            self.wrong(&["log", "level"], &said, "write error, warn, info, debug or trace, or target=level pairs");
        }
    }
}
