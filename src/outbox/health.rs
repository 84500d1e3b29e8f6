//! How a lane does: whether its peer is there, and whether it takes anything. Pure.
//!
//! A peer that is not there costs each mail an attempt for nothing, and so its lane rests. One that is there and takes
//! nothing may take the next mail, so each has its attempt, but one at a time: the mail of others goes first.

use jiff::Timestamp;

use super::config::Config;
use super::lanes::Lane;
use super::schedule::later;
use crate::relay::{About, Outcome, RecipientOutcome};

/// What its last jobs were like.
#[derive(Debug, Default)]
pub struct Health {
    /// Jobs in a row that met no peer, or one that talks to nobody.
    troubles: u32,
    rests: u32,
    /// Jobs in a row of which a peer took nothing.
    refusals: u32,
}

impl Health {
    /// Learns from an outcome.
    pub fn learn(&mut self, lane: &mut Lane, outcome: &Outcome, config: &Config, now: Timestamp) {
        if is_trouble(outcome) {
            self.troubles += 1;
            self.rest(lane, outcome, config, now);
            return;
        }
        (self.troubles, self.rests, lane.rests) = (0, 0, None);
        if outcome.is_taken() {
            (self.refusals, lane.slow) = (0, None);
            return;
        }
        self.refusals = self.refusals.saturating_add(1);
        if config.slow_after > 0 && self.refusals >= config.slow_after && lane.slow.is_none() {
            let said = said(outcome);
            tracing::warn!(lane = %lane.name, said, "a peer takes nothing: it gets one mail at a time");
            lane.slow = Some(said);
        }
    }

    fn rest(&mut self, lane: &mut Lane, outcome: &Outcome, config: &Config, now: Timestamp) {
        if config.rest_after == 0 || (self.troubles < config.rest_after && lane.rests.is_none()) {
            return;
        }
        let wait = config.rest_first.saturating_mul(1 << self.rests.min(16)).min(config.rest_most);
        // Those that ended together are one trouble.
        if lane.rests.as_ref().is_none_or(|(until, _)| *until <= now) {
            self.rests += 1;
            let said = said(outcome);
            tracing::warn!(lane = %lane.name, wait_s = wait.as_secs(), said, "a lane of the outbox rests");
            lane.rests = Some((later(now, wait), said));
        }
    }
}

/// What operators read of it: what was answered for the first recipient.
fn said(outcome: &Outcome) -> String {
    outcome.recipients.first().map(|one| one.reply().to_string()).unwrap_or_default()
}

/// Whether the next mail would fare no better: nobody answered, or whoever did said at once that it talks to nobody.
fn is_trouble(outcome: &Outcome) -> bool {
    outcome.recipients.iter().all(|one| match one {
        RecipientOutcome::Delayed(reply) => outcome.transport.is_none() || reply.about == About::Connection,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::judge::tests::at;
    use crate::outbox::lanes::Lanes;
    use crate::relay::{Reply, Via};

    #[test]
    fn peers_that_are_not_there_get_a_rest_and_those_that_take_nothing_one_at_a_time() {
        let config = Config { rest_after: 2, slow_after: 3, ..Config::default() };
        let heard = |outcome: RecipientOutcome| {
            let via = Via { host: "mx".into(), said: "mx:25".into() };
            Outcome { transport: Some(via), ..Outcome::all(1, outcome) }
        };
        let reply = |code: u16| Reply::new(code, None, "said");
        let silence = || Outcome::all(1, RecipientOutcome::Delayed(reply(451)));
        let shut = || heard(RecipientOutcome::Delayed(reply(421).about(About::Connection)));
        let (later, never) = (|| heard(reply(451).outcome()), || heard(reply(550).outcome()));
        let good = || heard(reply(250).outcome());
        let both = || {
            let recipients = vec![reply(550).outcome(), reply(250).outcome()];
            Outcome { recipients, ..good() }
        };
        // What comes back, how many places the lane of five has then, and whether it rests.
        let table = [
            (silence(), 5, false),
            (later(), 5, false),
            (never(), 5, false),
            (shut(), 5, false),
            (never(), 1, false),
            (never(), 1, false),
            (both(), 5, false),
            (silence(), 5, false),
            (shut(), 5, true),
            (good(), 5, false),
            (shut(), 5, false),
            (shut(), 5, true),
        ];
        let (mut lanes, mut health) = (Lanes::default(), Health::default());
        let number = lanes.lane("smart", "smart", 5);
        for (step, (outcome, places, rests)) in table.into_iter().enumerate() {
            let lane = lanes.get_mut(number).unwrap();
            health.learn(lane, &outcome, &config, at(0));
            assert_eq!((lane.places(), lane.rests.is_some()), (places, rests), "step {step}: {outcome:?}");
        }
        let never_slow = Config { slow_after: 0, rest_after: 0, ..config };
        let lane = lanes.get_mut(number).unwrap();
        lane.rests = None;
        (0..99).for_each(|_| health.learn(lane, &never(), &never_slow, at(0)));
        (0..99).for_each(|_| health.learn(lane, &silence(), &never_slow, at(0)));
        assert_eq!((lane.places(), lane.rests.is_some()), (5, false));
    }
}
