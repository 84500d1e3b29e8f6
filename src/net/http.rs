//! HTTP requests of our own: one at a time, bounded in size and time, never redirected, never in clear over a network.
//!
//! Must not know: what is asked for.

use std::time::Duration;

use http::header::{HOST, HeaderValue, USER_AGENT};
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::{ConnectConfig, ConnectError, Connector, is_loopback};
use super::dial::authority;

/// The header section of an answer may be this long.
const HEADERS: usize = 64 << 10;

/// How requests are made.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    pub connect: ConnectConfig,
    /// How long a request may take in all, connection and answer included.
    pub timeout: Duration,
    /// How many bytes of an answer are read; a longer one is an error.
    pub max_answer: usize,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No connection, or no answer in time.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{target} broke off: {said}")]
    Broken { target: String, said: String },
    #[error("the answer of {target} is longer than {limit} bytes")]
    TooLarge { target: String, limit: usize },
    /// The URL is not one that requests are sent to.
    #[error("{0}")]
    Address(String),
}

/// Sends requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    connector: Connector,
    timeout: Duration,
    max_answer: usize,
}

impl Http {
    /// Reads the authorities and the proxy's address.
    pub fn new(config: &HttpConfig) -> Result<Self, ConnectError> {
        let connector = Connector::new(&config.connect)?;
        Ok(Self { connector, timeout: config.timeout, max_answer: config.max_answer })
    }

    /// Sends a request with an absolute URL and reads the whole answer, whatever its status. A redirect is an answer
    /// like any other: a secret that is sent to one place must not end up at another.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError> {
        let at = Target::of(request.uri()).map_err(HttpError::Address)?;
        let late = || ConnectError::Timeout { target: at.shown.clone(), seconds: self.timeout.as_secs() };
        timeout(self.timeout, self.exchange(&at, request)).await.map_err(|_| HttpError::Connect(late()))?
    }

    async fn exchange(&self, at: &Target, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError> {
        let broken = |error: hyper::Error| HttpError::Broken { target: at.shown.clone(), said: said(&error) };
        let stream = match (at.tls, is_loopback(&at.host)) {
            (true, false) => self.connector.tls(&at.host, at.port).await?,
            // A proxy elsewhere could not reach it, and would see what is sent in clear.
            (true, true) => self.connector.direct().tls(&at.host, at.port).await?,
            (false, _) => self.connector.direct().plain(&at.host, at.port).await?,
        };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Dropped with this function, so that no connection outlives its request.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let answer = sender.send_request(at.relative(request)?).await.map_err(broken)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.max_answer).collect().await.map_err(|error| {
            match (error.downcast_ref::<LengthLimitError>(), error.downcast_ref::<hyper::Error>()) {
                (Some(_), _) => HttpError::TooLarge { target: at.shown.clone(), limit: self.max_answer },
                (None, Some(error)) => broken_body(at, said(error)),
                (None, None) => broken_body(at, error.to_string()),
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes().to_vec()))
    }
}

fn broken_body(at: &Target, said: String) -> HttpError {
    HttpError::Broken { target: at.shown.clone(), said }
}

/// What hyper says, with the cause that it leaves out.
fn said(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Whether requests may be sent to a URL; the text says why not.
pub fn check_url(url: &str) -> Result<(), String> {
    let uri = url.parse::<Uri>().map_err(|_| format!("\"{url}\" is not a URL"))?;
    Target::of(&uri).map(drop)
}

/// Where a request goes.
struct Target {
    tls: bool,
    /// Without brackets.
    host: String,
    port: u16,
    /// Host and port, for messages.
    shown: String,
    /// The value of the Host field.
    field: String,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, String> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).to_lowercase();
        if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("a URL needs a host, and holds no user or password".to_owned());
        }
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            Some("http") => {
                return Err(format!("http://{host} would send secrets in clear; only https:// may be used"));
            }
            _ => return Err(format!("a URL of {host} that does not begin with https://")),
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let field = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        Ok(Self { tls, shown: authority(&host, port), host, port, field })
    }

    /// The request as it is sent: with the path alone, and the host as a field (RFC 9112 section 3.2.1).
    fn relative(&self, request: Request<Vec<u8>>) -> Result<Request<Full<Bytes>>, HttpError> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.uri = Uri::from(path);
        let host = HeaderValue::from_str(&self.field);
        head.headers.insert(HOST, host.map_err(|_| HttpError::Address(format!("{} is no host", self.shown)))?);
        let own = concat!("ticketgate/", env!("CARGO_PKG_VERSION"));
        head.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(own));
        Ok(Request::from_parts(head, Full::new(Bytes::from(body))))
    }
}
