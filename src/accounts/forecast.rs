//! When a credential is going to die, told before it does (B9).
//!
//! Pure: what is known of the token and of the client goes in with the time, and comes out as a list of ends.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::credential::About;

/// Who issued a token, as far as the rules for its end differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Issuer {
    Microsoft,
    Google,
    #[default]
    Other,
}

/// What is known of the client that a token was issued to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub issuer: Issuer,
    pub secret_expires: Option<Timestamp>,
    pub certificate_expires: Option<Timestamp>,
}

/// Whether the token is in use, which keeps some of them alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Connected,
    Idle,
}

/// One way in which a credential ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// A word for programs.
    pub code: &'static str,
    pub at: Timestamp,
    pub said: String,
    pub action: &'static str,
}

const DAY: i64 = 86_400;
/// Microsoft forgets a refresh token that was not used for 90 days (AADSTS700082), Google after six months.
const MICROSOFT_UNUSED: SignedDuration = SignedDuration::from_secs(90 * DAY);
const GOOGLE_UNUSED: SignedDuration = SignedDuration::from_secs(182 * DAY);
/// Refresh tokens of a Google project whose consent screen is in "Testing" live for 7 days.
const GOOGLE_TESTING: SignedDuration = SignedDuration::from_secs(7 * DAY + 3600);

/// Every end that can be foreseen, the nearest first.
pub fn ends(about: Option<&About>, client: &Client, in_use: Use) -> Vec<End> {
    let mut ends = Vec::new();
    if let Some(about) = about.filter(|about| about.renewable) {
        ends.extend(refresh_end(about, client, in_use));
        ends.extend(unused_end(about, client, in_use));
    }
    if let Some(at) = client.secret_expires {
        ends.push(End {
            code: "client_secret_expires",
            at,
            said: "the client secret".into(),
            action: "make a new client secret at the provider, and put it and its date into the [[oauth]] section",
        });
    }
    if let Some(at) = client.certificate_expires {
        ends.push(End {
            code: "certificate_expires",
            at,
            said: "the client's certificate".into(),
            action: "make a new certificate, register it at the provider, and name it in the [[oauth]] section",
        });
    }
    ends.sort_by_key(|end| end.at);
    ends
}

/// The ends that are near enough to be told.
pub fn warnings(ends: &[End], before: Duration, now: Timestamp) -> Vec<End> {
    let horizon = now.saturating_add(before).unwrap_or(now);
    let near = ends.iter().filter(|end| end.at <= horizon);
    near.map(|end| {
        let verb = if end.at <= now { "expired" } else { "expires" };
        End { said: format!("{} {verb} at {:.0}", end.said, end.at), ..end.clone() }
    })
    .collect()
}

/// The end that the provider has told. Where refreshing moves it, a token that is in use does not end.
fn refresh_end(about: &About, client: &Client, in_use: Use) -> Option<End> {
    let at = about.refresh_expires_at?;
    if in_use == Use::Connected && about.refresh_extends == Some(true) {
        return None;
    }
    // Before the first refresh nobody knows whether it moves; a token that outlives that refresh tells soon enough.
    if in_use == Use::Connected && about.refresh_extends.is_none() && at > about.expires_at {
        let life = at.duration_since(about.refresh_obtained_at);
        if client.issuer != Issuer::Google || life > GOOGLE_TESTING {
            return None;
        }
    }
    let testing = client.issuer == Issuer::Google && at.duration_since(about.refresh_obtained_at) <= GOOGLE_TESTING;
    Some(End {
        code: "refresh_token_expires",
        at,
        said: if testing {
            "the consent, which lasts 7 days while the project's consent screen is in \"Testing\",".into()
        } else {
            "the consent".into()
        },
        action: if testing {
            "publish the consent screen in the Google console, then run `ticketgate reconnect ADDRESS`"
        } else {
            "run `ticketgate reconnect ADDRESS` before then"
        },
    })
}

/// A token that nobody uses is forgotten.
fn unused_end(about: &About, client: &Client, in_use: Use) -> Option<End> {
    let (unused, days) = match client.issuer {
        Issuer::Microsoft => (MICROSOFT_UNUSED, 90),
        Issuer::Google => (GOOGLE_UNUSED, 182),
        Issuer::Other => return None,
    };
    let at = about.obtained_at.saturating_add(unused).ok().filter(|_| in_use == Use::Idle)?;
    Some(End {
        code: "refresh_token_unused",
        at,
        said: format!("the consent, which is forgotten after {days} days without use,"),
        action: "run `ticketgate channels resume ADDRESS`, or reconnect later",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + day * DAY).unwrap()
    }

    fn token() -> About {
        About {
            renewable: true,
            obtained_at: at(0),
            refresh_obtained_at: at(0),
            expires_at: Timestamp::from_second(1_795_003_600).unwrap(),
            ..About::default()
        }
    }

    #[test]
    fn each_end_is_foreseen() {
        let client = |issuer| Client { issuer, ..Client::default() };
        let told = |day, extends| About { refresh_expires_at: Some(at(day)), refresh_extends: extends, ..token() };
        let secret = Client { secret_expires: Some(at(30)), certificate_expires: Some(at(20)), ..Client::default() };
        let table = [
            (None, Client::default(), Use::Connected, vec![]),
            (Some(token()), client(Issuer::Other), Use::Idle, vec![]),
            (Some(token()), client(Issuer::Microsoft), Use::Connected, vec![]),
            (Some(token()), client(Issuer::Microsoft), Use::Idle, vec![("refresh_token_unused", 90)]),
            (Some(token()), client(Issuer::Google), Use::Idle, vec![("refresh_token_unused", 182)]),
            (Some(About { renewable: false, ..token() }), client(Issuer::Google), Use::Idle, vec![]),
            (Some(told(7, None)), client(Issuer::Google), Use::Connected, vec![("refresh_token_expires", 7)]),
            (Some(told(90, None)), client(Issuer::Other), Use::Connected, vec![]),
            (Some(told(90, Some(true))), client(Issuer::Other), Use::Connected, vec![]),
            (Some(told(90, Some(true))), client(Issuer::Other), Use::Idle, vec![("refresh_token_expires", 90)]),
            (Some(told(90, Some(false))), client(Issuer::Other), Use::Connected, vec![("refresh_token_expires", 90)]),
            (None, secret, Use::Connected, vec![("certificate_expires", 20), ("client_secret_expires", 30)]),
        ];
        for (about, client, in_use, want) in table {
            let got = ends(about.as_ref(), &client, in_use);
            let got: Vec<(&str, i64)> =
                got.iter().map(|end| (end.code, end.at.duration_since(at(0)).as_secs() / DAY)).collect();
            assert_eq!(got, want, "{about:?} {client:?} {in_use:?}");
        }
    }

    #[test]
    fn warnings_come_in_time_and_say_whether_it_is_too_late() {
        let client = Client { secret_expires: Some(at(20)), ..Client::default() };
        let ends = ends(None, &client, Use::Connected);
        let before = Duration::from_secs(14 * 86_400);
        assert_eq!(warnings(&ends, before, at(5)), []);
        assert!(warnings(&ends, before, at(6))[0].said.starts_with("the client secret expires at 20"));
        assert!(warnings(&ends, before, at(21))[0].said.starts_with("the client secret expired at 20"));
    }
}
