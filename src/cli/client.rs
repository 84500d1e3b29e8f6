//! HTTP over the admin socket.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::args::Reach;
use super::{CliError, socket_path};
use crate::admin::problem::Problem;
use crate::units::show_duration;

/// A daemon that is reached over its socket. Each request has its own connection.
pub(super) struct Client {
    socket: PathBuf,
    /// How long an answer, and then each further piece of it, may take.
    patience: Duration,
    runtime: Runtime,
}

/// Whether the reader of a stream wants more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    Yes,
    No,
}

impl Client {
    /// Finds the socket; the first request tells whether anybody answers on it.
    pub fn reach(reach: &Reach) -> Result<Self, CliError> {
        let socket = socket_path(reach)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::new(error, "try again with fewer programs running"))?;
        Ok(Self { socket, patience: reach.timeout, runtime })
    }

    /// What a route answers.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.ask(Method::GET, path, String::new())
    }

    /// What a route answers to a change.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T, CliError> {
        self.ask(Method::POST, path, body.to_string())
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: String) -> Result<T, CliError> {
        self.runtime.block_on(async { decode(&self.collect(self.send(method, path, body).await?).await?) })
    }

    /// Hands on the bytes of an answer as they come.
    pub fn stream(&self, path: &str, mut each: impl FnMut(&[u8]) -> Result<More, CliError>) -> Result<(), CliError> {
        self.runtime.block_on(async {
            let mut body = self.send(Method::GET, path, String::new()).await?.into_body();
            while let Some(frame) = self.in_time(body.frame()).await? {
                let frame = frame.map_err(broken_off)?;
                if let Some(bytes) = frame.data_ref()
                    && each(bytes)? == More::No
                {
                    break;
                }
            }
            Ok(())
        })
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Response<Incoming>, CliError> {
        let response = self.in_time(self.send_now(method, path, body)).await??;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        Err(refusal(status, &self.collect(response).await?))
    }

    async fn send_now(&self, method: Method, path: &str, body: String) -> Result<Response<Incoming>, CliError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken_off)?;
        // It ends with the answer; what goes wrong with it is seen by the reader of the answer.
        tokio::spawn(connection);
        let uri = path.parse::<Uri>().map_err(|error| CliError::new(error, "check what you wrote"))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| CliError::new(error, "check what you wrote"))?;
        sender.send_request(request).await.map_err(broken_off)
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Vec<u8>, CliError> {
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(frame) = self.in_time(body.frame()).await? {
            bytes.extend_from_slice(frame.map_err(broken_off)?.data_ref().map_or(&[], Bytes::as_ref));
        }
        Ok(bytes)
    }

    /// What the daemon says, unless it is silent for too long.
    async fn in_time<T>(&self, said: impl Future<Output = T>) -> Result<T, CliError> {
        let action = "look into its log, and wait longer with --timeout if it has much to do";
        tokio::time::timeout(self.patience, said).await.map_err(|_| {
            let waited = show_duration(self.patience);
            CliError::new(format!("the daemon on {} has said nothing for {waited}", self.socket.display()), action)
        })
    }

    fn unreachable(&self, error: &std::io::Error) -> CliError {
        let socket = self.socket.display();
        match error.kind() {
            ErrorKind::PermissionDenied => CliError::new(
                format!("you may not open {socket} ({error})"),
                "run this as root or the daemon's user, or see [admin] of the configuration",
            ),
            ErrorKind::WouldBlock => {
                CliError::new(format!("the daemon on {socket} has too many connections waiting"), "try again")
            }
            _ => CliError::new(
                format!("no daemon answers on {socket} ({error})"),
                "start it, let it come up if it has just been started, or name its socket with --socket",
            ),
        }
    }
}

/// A value as a part of a path or a query (RFC 3986 section 2.1).
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Who acts, for the trace: the user who is logged in.
pub(super) fn author() -> Option<String> {
    std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).ok().filter(|name| !name.is_empty())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CliError> {
    let action = "use the ticketgate command of the same version as the daemon";
    serde_json::from_slice(bytes).map_err(|error| CliError::new(format!("the answer cannot be read ({error})"), action))
}

fn refusal(status: StatusCode, body: &[u8]) -> CliError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => CliError::new(problem.detail, &problem.action),
        Err(_) => CliError::new(format!("the daemon answered {status}"), "look into its log"),
    }
}

fn broken_off(error: hyper::Error) -> CliError {
    CliError::new(format!("the daemon broke off ({error})"), "look whether it still runs")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_people_write_cannot_change_the_path() {
        assert_eq!(super::escape("<a/b?c=d&e>@x ü"), "%3Ca%2Fb%3Fc%3Dd%26e%3E%40x%20%C3%BC");
    }
}
