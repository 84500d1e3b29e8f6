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
}
