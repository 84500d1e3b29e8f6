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
const MAIL_BYTES: (u64, u64) = (64 << 10, 1 << 30);

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
            self.range(&["channel", &at, "max_mail_bytes"], channel.max_mail_bytes, MAIL_BYTES, show_bytes);
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

    /// Says of a value that does not lie between two others in which range it makes sense; `show` writes values as the
    /// file has them.
    pub(super) fn range<T: PartialOrd + Copy>(
        &mut self,
        path: &[&str],
        given: T,
        (least, most): (T, T),
        show: impl Fn(T) -> String,
    ) {
        if !(least..=most).contains(&given) {
            let advice = format!("write {} to {}", show(least), show(most));
            self.wrong(path, &format!("{} is out of range", show(given)), &advice);
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
            self.range(&["store", key], bytes, (least, most), show_bytes);
        }
        self.range(&["store", "group_max"], store.group_max, (1, 65_536), |count| count.to_string());
    }

    fn filing(&mut self, config: &Config) {
        let headers = (16 << 10, (HEAD - 1) as u64);
        self.range(&["intake", "max_header_bytes"], config.intake.max_header_bytes, headers, show_bytes);
        let counts = [
            ("intake", "max_received", config.intake.max_received, 10, 1000),
            ("filing", "batch", config.filing.batch, 1, 4096),
            ("filing", "max_parts", config.filing.max_parts, 10, 100_000),
            ("filing", "max_depth", config.filing.max_depth, 5, 1000),
        ];
        for (section, key, count, least, most) in counts {
            self.range(&[section, key], count, (least, most), |count| count.to_string());
        }
        let (none, second) = (Duration::ZERO, Duration::from_secs(1));
        let waits = [
            ("parse_timeout", config.filing.parse_timeout, second / 10, 600 * second),
            ("interval", config.filing.interval, none, 10 * second),
            ("patience", config.filing.patience, none, 600 * second),
        ];
        for (key, given, least, most) in waits {
            self.range(&["filing", key], given, (least, most), show_duration);
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
