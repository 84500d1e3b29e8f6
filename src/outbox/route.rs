//! By which relay a mail leaves: the one that was asked for, the channel's, the one for attachments, the default.

use crate::mail::Address;
use crate::store::rows::OutboxRow;
use crate::ticket::Directory;

/// The name of the relay that a mail leaves by; `None` where there is no relay at all. A person's order and a program's
/// wish go before the channel (R24), and of the channel the relay for attachments before the other (R25).
pub fn relay(row: &OutboxRow, directory: &Directory, default: impl FnOnce() -> Option<String>) -> Option<String> {
    let channel = Address::parse(&row.channel).ok().and_then(|address| directory.by_address(&address.key()));
    let attachments = channel.filter(|_| row.attachments).and_then(|channel| channel.attachments_relay.clone());
    let own = || channel.and_then(|channel| channel.relay.clone());
    row.relay.clone().or(attachments).or_else(own).or_else(default)
}

/// The other relays that a mail may leave by, where its own loses what it must carry: of its channel the one for
/// attachments, and the default relay where one is named. A relay that was named for attachments keeps mail that has
/// some, since others may not take it (R25).
pub fn others(row: &OutboxRow, directory: &Directory, default: Option<&str>, own: &str) -> Vec<String> {
    let channel = Address::parse(&row.channel).ok().and_then(|address| directory.by_address(&address.key()));
    let attachments = channel.and_then(|channel| channel.attachments_relay.as_deref());
    if row.relay.is_some() || (row.attachments && attachments.is_some()) {
        return Vec::new();
    }
    let mut others: Vec<String> = Vec::new();
    for name in attachments.into_iter().chain(default).filter(|name| *name != own) {
        if !others.iter().any(|known| known == name) {
            others.push(name.to_owned());
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::judge::tests::row;
    use crate::ticket::channel::tests::channel;

    #[test]
    fn the_nearest_wish_decides() {
        let mut sales = channel("sales@a.example");
        sales.relay = Some("sales".into());
        sales.attachments_relay = Some("large".into());
        let directory = Directory::new(vec![channel("support@a.example"), sales], vec![], vec![], None);
        // Channel, attachments, asked for, the relay.
        let table = [
            ("support@a.example", false, None, "default"),
            ("support@a.example", true, None, "default"),
            ("sales@a.example", false, None, "sales"),
            ("Sales@a.example", true, None, "large"),
            ("sales@a.example", true, Some("asked"), "asked"),
            ("gone@a.example", false, None, "default"),
        ];
        for (channel, attachments, asked, want) in table {
            let row = OutboxRow { channel: channel.into(), attachments, relay: asked.map(str::to_owned), ..row() };
            assert_eq!(
                relay(&row, &directory, || Some("default".into())).as_deref(),
                Some(want),
                "{channel} {attachments}"
            );
        }
        assert_eq!(relay(&row(), &directory, || None), None);
    }

    #[test]
    fn other_relays_are_those_that_the_channel_may_use() {
        let mut sales = channel("sales@a.example");
        (sales.relay, sales.attachments_relay) = (Some("sales".into()), Some("large".into()));
        let mut help = channel("help@a.example");
        help.relay = Some("help".into());
        let directory = Directory::new(vec![sales, help], vec![], vec![], None);
        // Channel, attachments, asked for, the default relay, its own, the others.
        type Case =
            (&'static str, bool, Option<&'static str>, Option<&'static str>, &'static str, &'static [&'static str]);
        let table: [Case; 8] = [
            ("sales@a.example", false, None, Some("main"), "sales", &["large", "main"]),
            ("sales@a.example", false, None, None, "sales", &["large"]),
            ("sales@a.example", false, None, Some("large"), "sales", &["large"]),
            ("sales@a.example", true, None, Some("main"), "large", &[]),
            ("sales@a.example", false, Some("sales"), Some("main"), "sales", &[]),
            ("help@a.example", true, None, Some("main"), "help", &["main"]),
            ("help@a.example", false, None, Some("help"), "help", &[]),
            ("gone@a.example", false, None, Some("main"), "other", &["main"]),
        ];
        for (channel, attachments, asked, default, own, want) in table {
            let row = OutboxRow { channel: channel.into(), attachments, relay: asked.map(str::to_owned), ..row() };
            assert_eq!(others(&row, &directory, default, own), want, "{channel} {attachments} {asked:?}");
        }
    }
}
