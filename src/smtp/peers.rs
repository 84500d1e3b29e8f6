//! How many connections are open, in all and per peer, and how many mails each peer sent lately.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use super::allow::in_networks;
use super::fault::Fault;

/// Failed logins of a peer are forgotten this long after the first of them.
const FAILURES_FOR: Duration = Duration::from_secs(600);

/// The count; one for the whole door.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    open: usize,
    peers: HashMap<IpAddr, Peer>,
}

#[derive(Debug)]
struct Peer {
    open: usize,
    /// Mails that it may send at once; grows back to a minute's worth within a minute.
    credit: f64,
    at: Instant,
    /// Logins that have failed, and since when they are counted.
    failed: Option<(u32, Instant)>,
}

impl Peers {
    /// A socket was taken up; its peer may still be unknown behind a proxy.
    pub(super) fn open(&self, config: &Config) -> Result<(), Fault> {
        let mut count = self.lock();
        if count.open >= config.max_connections {
            return Err(Fault::TooManyConnections);
        }
        count.open += 1;
        Ok(())
    }

    /// The peer of a connection is known.
    pub(super) fn enter(&self, address: IpAddr, config: &Config, now: Instant) -> Result<(), Fault> {
        let mut count = self.lock();
        let peer = count.peers.entry(group(address)).or_insert_with(|| Peer {
            open: 0,
            credit: f64::from(config.max_mails_per_minute),
            at: now,
            failed: None,
        });
        if peer.open >= config.max_connections_per_peer && !in_networks(&config.rate_exempt, address) {
            return Err(Fault::TooManyFromPeer);
        }
        peer.open += 1;
        Ok(())
    }

    /// A mail of this peer begins.
    pub(super) fn mail(&self, address: IpAddr, config: &Config, now: Instant) -> Result<(), Fault> {
        if in_networks(&config.rate_exempt, address) {
            return Ok(());
        }
        let mut count = self.lock();
        let Some(peer) = count.peers.get_mut(&group(address)) else { return Ok(()) };
        peer.refill(config, now);
        if peer.credit < 1.0 {
            return Err(Fault::TooManyMails);
        }
        peer.credit -= 1.0;
        Ok(())
    }

    /// A login of this peer has failed.
    pub(super) fn login_failed(&self, address: IpAddr, now: Instant) {
        if let Some(peer) = self.lock().peers.get_mut(&group(address)) {
            peer.forget_failures(now);
            let (count, since) = peer.failed.unwrap_or((0, now));
            peer.failed = Some((count.saturating_add(1), since));
        }
    }

    /// Whether this peer may try to log in, where so many failures are allowed.
    pub(super) fn may_log_in(&self, address: IpAddr, most: u32, now: Instant) -> bool {
        let mut count = self.lock();
        let Some(peer) = count.peers.get_mut(&group(address)) else { return true };
        peer.forget_failures(now);
        peer.failed.is_none_or(|(failed, _)| failed < most)
    }

    /// A connection whose peer was counted ended.
    pub(super) fn leave(&self, address: IpAddr) {
        let mut count = self.lock();
        if let Some(peer) = count.peers.get_mut(&group(address)) {
            peer.open = peer.open.saturating_sub(1);
        }
    }

    /// A socket was closed.
    pub(super) fn close(&self) {
        let mut count = self.lock();
        count.open = count.open.saturating_sub(1);
    }

    /// Forgets peers that are gone and have their credit back, so that the count does not grow for ever.
    pub(super) fn tidy(&self, config: &Config, now: Instant) {
        let full = f64::from(config.max_mails_per_minute);
        self.lock().peers.retain(|_, peer| {
            peer.refill(config, now);
            peer.forget_failures(now);
            peer.open > 0 || peer.credit < full || peer.failed.is_some()
        });
    }

    /// Nothing in here can panic half way, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn forget_failures(&mut self, now: Instant) {
        self.failed = self.failed.filter(|(_, since)| now.saturating_duration_since(*since) < FAILURES_FOR);
    }

    fn refill(&mut self, config: &Config, now: Instant) {
        let full = f64::from(config.max_mails_per_minute);
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * full / 60.0;
        self.credit = (self.credit + earned).min(full);
        self.at = now;
    }
}

/// One customer of an IPv6 network has at least a /64, so that is what counts as one peer.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_logins_are_counted_and_forgotten() {
        let (config, peers, start) = (Config::default(), Peers::default(), Instant::now());
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(peers.enter(peer, &config, start), Ok(()));
        for _ in 0..2 {
            assert!(peers.may_log_in(peer, 2, start));
            peers.login_failed(peer, start);
        }
        peers.leave(peer);
        peers.tidy(&config, start + Duration::from_secs(599));
        assert!(!peers.may_log_in(peer, 2, start + Duration::from_secs(599)), "leaving does not help");
        assert!(peers.may_log_in(peer, 2, start + Duration::from_secs(600)));
    }

    #[test]
    fn connections_and_mails_are_counted_per_peer() {
        let config =
            Config { max_connections: 3, max_connections_per_peer: 1, max_mails_per_minute: 2, ..Config::default() };
        let (peers, start) = (Peers::default(), Instant::now());
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(peers.enter(one, &config, start), Ok(()));
        assert_eq!(peers.enter(neighbour, &config, start), Err(Fault::TooManyFromPeer));
        for _ in 0..3 {
            assert_eq!(peers.open(&config), Ok(()));
            assert_eq!(peers.enter(loopback, &config, start), Ok(()));
            assert_eq!(peers.mail(loopback, &config, start), Ok(()));
        }
        assert_eq!(peers.open(&config), Err(Fault::TooManyConnections));
        peers.close();
        assert_eq!(peers.open(&config), Ok(()));
        assert_eq!(peers.mail(one, &config, start), Ok(()));
        assert_eq!(peers.mail(one, &config, start), Ok(()));
        assert_eq!(peers.mail(one, &config, start), Err(Fault::TooManyMails));
        peers.leave(one);
        peers.tidy(&config, start);
        assert_eq!(peers.enter(one, &config, start), Ok(()));
        let later = start + Duration::from_secs(30);
        assert_eq!(peers.mail(one, &config, later), Ok(()));
        assert_eq!(peers.mail(one, &config, later), Err(Fault::TooManyMails));
        peers.leave(one);
        peers.tidy(&config, later + Duration::from_secs(60));
        assert!(!peers.lock().peers.contains_key(&group(one)));
    }
}
