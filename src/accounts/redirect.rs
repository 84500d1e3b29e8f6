//! Where browsers come back to: a loopback port for the time of one authorisation, or a public address for all.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinHandle};
use url::{Host, Url};

use super::Accounts;
use super::authorise::{Authorisation, Outcome};
use super::problem::{Cause, Problem};
use crate::net::oauth::{Preset, ProviderConfig};
use crate::net::redirect::{Page, PageKind, serve};

/// How long a loopback port stays open after the end, so that the browser gets its page.
pub(super) const LINGER: Duration = Duration::from_secs(3);
/// How long a browser waits for the outcome before it is told to look elsewhere.
const PATIENCE: Duration = Duration::from_secs(45);

/// The way back of one authorisation.
pub(super) struct Back {
    /// The redirect URL of the request.
    pub url: String,
    /// Keeps the loopback port open; None where the redirect URL is a public one.
    _door: Option<Arc<Door>>,
}

impl Back {
    /// Opens a loopback port, unless the redirect URL is a public one.
    pub async fn open(accounts: &Accounts, provider: &ProviderConfig) -> Result<Self, Problem> {
        let usual = match provider.preset {
            // Microsoft registers http://localhost and then ignores the port; the literal address it does not take.
            Preset::Microsoft => "http://localhost",
            // RFC 8252 section 8.3 prefers the literal address, which no resolver can lead elsewhere.
            Preset::Google | Preset::Generic => "http://127.0.0.1/",
        };
        let text = provider.redirect_url.as_deref().unwrap_or(usual);
        let wrong = |said: String| Problem::new(Cause::OauthConfig, format!("redirect_url {text}: {said}"));
        let mut url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        if !is_loopback(&url) {
            return Ok(Self { url: text.to_owned(), _door: None });
        }
        let address = SocketAddr::from(([127, 0, 0, 1], url.port().unwrap_or(0)));
        let address = match url.host() {
            Some(Host::Ipv6(ip)) => SocketAddr::from((ip, address.port())),
            _ => address,
        };
        let door = accounts.0.doors.open(accounts, address, url.path());
        let door = door.await.map_err(|error| wrong(format!("{address}: {error}")))?;
        url.set_port(Some(door.port)).map_err(|()| wrong("it takes no port".into()))?;
        let bare = !text.trim_start_matches("http://").contains('/');
        let full = if bare { url.as_str().trim_end_matches('/') } else { url.as_str() };
        Ok(Self { url: full.to_owned(), _door: Some(door) })
    }
}

/// A loopback port that answers browsers until the last authorisation that came through it is dropped.
pub(super) struct Door {
    port: u16,
    serving: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The ports that the configuration names. One is shared by all authorisations that wait, since a state tells whose
/// answer it is: so one that was left alone keeps no other from beginning, and none that ends takes a browser of
/// another with it, as one of several sockets on the port would with whatever waits to be accepted.
#[derive(Default)]
pub(super) struct Doors(Mutex<HashMap<SocketAddr, Shared>>);

/// A door that may be open, and what ends once its port is free.
type Shared = (Weak<Door>, JoinHandle<()>);

impl Doors {
    async fn open(&self, accounts: &Accounts, address: SocketAddr, path: &str) -> std::io::Result<Arc<Door>> {
        let mut doors = self.0.lock().await;
        if let Some((door, serving)) = doors.remove(&address) {
            if let Some(open) = door.upgrade() {
                doors.insert(address, (door, serving));
                return Ok(open);
            }
            // It is closing, and its port is free when that is done. Being aborted is its only end.
            let _ = serving.await;
        }
        let listener = TcpListener::bind(address).await?;
        let port = listener.local_addr()?.port();
        let serving = tokio::spawn(serve_paths(listener, accounts.clone(), Some(path.to_owned())));
        let door = Arc::new(Door { port, serving: serving.abort_handle() });
        if address.port() != 0 {
            doors.insert(address, (Arc::downgrade(&door), serving));
        }
        Ok(door)
    }
}

/// Whether a redirect URL leads to this machine only.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().map(|host| host.trim_matches(['[', ']']));
    url.scheme() == "http" && host.is_some_and(crate::net::connect::is_loopback)
}

impl Accounts {
    /// Answers browsers that come back through a reverse proxy, until it is dropped.
    pub async fn serve_redirects(self, listener: TcpListener) {
        serve_paths(listener, self, None).await;
    }

    /// Where browsers come back to, by the configuration.
    fn redirect_paths(&self) -> Vec<String> {
        let setup = self.setup();
        let urls = setup.providers.iter().filter_map(|provider| provider.redirect_url.as_deref());
        urls.filter_map(|url| Url::parse(url).ok()).map(|url| url.path().to_owned()).collect()
    }
}

async fn serve_paths(listener: TcpListener, accounts: Accounts, own: Option<String>) {
    serve(listener, move |target| {
        let paths = accounts.redirect_paths().into_iter().chain(own.clone()).collect();
        page(accounts.clone(), target, paths)
    })
    .await;
}

fn page(accounts: Accounts, target: String, paths: Vec<String>) -> impl Future<Output = Page> + Send {
    Box::pin(async move {
        let path = target.split('?').next().unwrap_or_default();
        if !paths.iter().any(|known| known == path) {
            return Page::unknown();
        }
        match accounts.redirected(&target, PATIENCE).await {
            Some(shown) => told(&shown),
            None => Page {
                kind: PageKind::Unasked,
                title: "Nobody waits for this answer".into(),
                text: vec!["Run `ticketgate connect` again, and open the address that it shows.".into()],
            },
        }
    })
}

fn told(shown: &Authorisation) -> Page {
    let channel = &shown.channel;
    let (title, text) = match &shown.outcome {
        Outcome::Granted(about) => {
            let account = about.account().unwrap_or_default();
            let said = format!("{account} has consented. New unread mail becomes tickets from now on.");
            (format!("{channel} is connected"), vec![said, "You can close this window.".into()])
        }
        Outcome::Refused(problem) => {
            let action = problem.action_for(channel);
            (format!("{channel} was not connected"), vec![problem.said.clone(), action])
        }
        Outcome::Waiting => {
            let said = "The mailbox is still being tried; the command that began this shows the outcome.";
            (format!("{channel} is being connected"), vec![said.into()])
        }
    };
    Page { kind: PageKind::Told, title, text }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bed;
    use super::*;

    #[tokio::test]
    async fn the_way_back_is_bound_where_it_is_ours() {
        let bed = Bed::new().await;
        let table = [
            (Preset::Generic, None, "http://127.0.0.1:PORT/"),
            (Preset::Microsoft, None, "http://localhost:PORT"),
            (Preset::Generic, Some("http://127.0.0.1/cb"), "http://127.0.0.1:PORT/cb"),
            (Preset::Google, Some("https://desk.example/back"), "https://desk.example/back"),
        ];
        for (preset, redirect_url, want) in table {
            let redirect_url = redirect_url.map(str::to_owned);
            let provider = ProviderConfig { preset, redirect_url, ..ProviderConfig::default() };
            let back = Back::open(&bed.accounts, &provider).await.unwrap();
            let port = back._door.as_ref().map(|door| door.port.to_string());
            assert_eq!(back.url, want.replace("PORT", &port.unwrap_or_default()));
        }
    }
}
