//! Microsoft's clouds across sections: a mailbox and its relay are in the cloud of the `[[oauth]]` that authorises them.
//! The clouds do not take each other's tokens, and are not to be sent them.

use super::check::Checker;
use super::{ChannelConfig, Config};
use crate::net::oauth::{Cloud, Preset};
use crate::relay::{self, RelayConfig};

/// Puts the cloud into each source and relay, so that the presets have the servers of that cloud.
pub(super) fn settle(config: &mut Config) {
    let of_sources: Vec<Option<Cloud>> = config.channels.iter().map(|channel| cloud_of(config, channel)).collect();
    let of_relays: Vec<Vec<Cloud>> = config.relays.iter().map(|relay| clouds_of(config, relay)).collect();
    for (channel, cloud) in config.channels.iter_mut().zip(of_sources) {
        if let (Some(source), Some(cloud)) = (&mut channel.source, cloud) {
            source.cloud = cloud;
        }
    }
    for (relay, clouds) in config.relays.iter_mut().zip(of_relays) {
        if let [cloud] = clouds[..] {
            relay.cloud = cloud;
        }
    }
}

/// The cloud of a channel's mailbox, where Microsoft authorises it.
fn cloud_of(config: &Config, channel: &ChannelConfig) -> Option<Cloud> {
    let name = channel.source.as_ref()?.oauth.as_ref()?;
    let provider = config.providers.iter().find(|provider| provider.name == *name)?;
    (provider.preset == Preset::Microsoft).then_some(provider.cloud)
}

/// The clouds of the mailboxes that a relay logs in as, each once.
fn clouds_of(config: &Config, relay: &RelayConfig) -> Vec<Cloud> {
    let mut clouds = Vec::new();
    if relay.uses_account() {
        for cloud in senders(config, relay).into_iter().filter_map(|channel| cloud_of(config, channel)) {
            if !clouds.contains(&cloud) {
                clouds.push(cloud);
            }
        }
    }
    clouds
}

/// The channels that a relay logs in as: the one that it names, or those that send by it.
fn senders<'a>(config: &'a Config, relay: &RelayConfig) -> Vec<&'a ChannelConfig> {
    if let Some(account) = &relay.account {
        return config.channels.iter().filter(|channel| channel.address.eq_ignore_ascii_case(account)).collect();
    }
    let usual = config.default_relay().map(|relay| &relay.name);
    let by = |name: Option<&String>| name.or(usual).is_some_and(|name| *name == relay.name);
    let sends = |channel: &&ChannelConfig| {
        by(channel.relay.as_ref()) || channel.attachments_relay.as_ref().is_some_and(|name| *name == relay.name)
    };
    config.channels.iter().filter(sends).collect()
}

fn listed(clouds: &[Cloud]) -> String {
    clouds.iter().map(|cloud| format!("\"{}\"", cloud.as_str())).collect::<Vec<_>>().join(" and ")
}

impl Checker<'_> {
    /// That no mailbox and no relay names a server of a cloud that is not its own.
    pub(super) fn clouds(&mut self, config: &Config) {
        for (index, channel) in config.channels.iter().enumerate() {
            let Some((source, cloud)) = channel.source.as_ref().zip(cloud_of(config, channel)) else { continue };
            let host = source.host().unwrap_or_default();
            if Cloud::of_host(host).is_some_and(|of| of != cloud) {
                let name = source.oauth.as_deref().unwrap_or_default();
                let wrong = format!("{host} is not in the cloud \"{}\" of the [[oauth]] \"{name}\"", cloud.as_str());
                let advice = format!("write host = \"{}\", or another cloud there", cloud.mail_host());
                self.wrong(&["channel", &index.to_string(), "source", "host"], &wrong, &advice);
            }
        }
        for (index, relay) in config.relays.iter().enumerate() {
            self.relay_cloud(config, &index.to_string(), relay);
        }
    }

    fn relay_cloud(&mut self, config: &Config, at: &str, relay: &RelayConfig) {
        let clouds = clouds_of(config, relay);
        let microsoft = matches!(relay.preset, relay::Preset::Microsoft365 | relay::Preset::Exchange);
        if clouds.len() > 1 && microsoft {
            let wrong = format!("its channels are in the clouds {}, which do not share a server", listed(&clouds));
            self.wrong(
                &["relay", at, "preset"],
                &wrong,
                "make a [[relay]] for each cloud, and name it in the channels",
            );
            return;
        }
        let host = relay.host().unwrap_or_default();
        if let (Some(of), [cloud]) = (Cloud::of_host(host), &clouds[..])
            && of != *cloud
        {
            let wrong = format!("{host} is not in the cloud {} of the mailboxes that it logs in as", listed(&clouds));
            let advice = format!("write host = \"{}\", or leave it out", cloud.smtp_host());
            self.wrong(&["relay", at, "host"], &wrong, &advice);
        }
    }
}
