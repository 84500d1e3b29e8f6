//! A provider on loopback that rotates refresh tokens and notices when one is used twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What the next token request is answered with, instead of a grant.
pub type Fault = (u16, &'static str);

#[derive(Default)]
pub struct State {
    /// Bodies of all token requests.
    pub asked: Vec<String>,
    pub faults: VecDeque<Fault>,
    /// Who signs in.
    pub account: String,
    pub scope: Option<String>,
    /// The refresh token that is valid now; older ones are dead, and using one kills this one (reuse detection).
    pub refresh: Option<String>,
    issued: u32,
}

#[derive(Clone)]
pub struct Provider {
    pub url: String,
    pub state: Arc<Mutex<State>>,
    /// Token requests wait for a permit, so that a test can hold one back.
    pub gate: Arc<Semaphore>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State { account: "support@localhost".into(), ..State::default() };
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let provider = Self { url, state: Arc::new(Mutex::new(state)), gate };
        let this = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(this.clone().serve(stream));
            }
        });
        provider
    }

    /// How many token requests came.
    pub fn asked(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }

    pub fn fail(&self, times: usize, fault: Fault) {
        self.state.lock().unwrap().faults.extend(std::iter::repeat_n(fault, times));
    }

    async fn serve(self, mut stream: TcpStream) {
        let Some((path, body)) = request(&mut stream).await else { return };
        let (status, answer) = match path.as_str() {
            "/token" => {
                self.gate.acquire().await.unwrap().forget();
                self.state.lock().unwrap().token(body)
            }
            "/device" => (
                200,
                format!(
                    r#"{{"device_code":"d","user_code":"ABCD-EFGH","verification_uri":"{}/go","expires_in":300,"interval":1}}"#,
                    self.url
                ),
            ),
            "/userinfo" => {
                let account = self.state.lock().unwrap().account.clone();
                (200, format!(r#"{{"sub":"{account}","email":"{account}"}}"#))
            }
            _ => (404, "{}".into()),
        };
        let head = "Content-Type: application/json\r\nConnection: close";
        let text = format!("HTTP/1.1 {status} X\r\n{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

impl State {
    fn token(&mut self, body: String) -> (u16, String) {
        let used = url::form_urlencoded::parse(body.as_bytes()).find(|(key, _)| key == "refresh_token");
        let used = used.map(|(_, value)| value.into_owned());
        self.asked.push(body);
        if let Some((status, answer)) = self.faults.pop_front() {
            return (status, answer.to_owned());
        }
        if let Some(used) = used
            && self.refresh.as_ref() != Some(&used)
        {
            self.refresh = None;
            return (400, r#"{"error":"invalid_grant","error_description":"reused or unknown"}"#.to_owned());
        }
        self.issued += 1;
        let (access, refresh) = (format!("access-{}", self.issued), format!("refresh-{}", self.issued));
        self.refresh = Some(refresh.clone());
        let scope = self.scope.as_ref().map(|scope| format!(r#","scope":"{scope}""#)).unwrap_or_default();
        let answer = format!(
            r#"{{"access_token":"{access}","token_type":"Bearer","expires_in":3600,"refresh_token":"{refresh}"{scope}}}"#
        );
        (200, answer)
    }
}

/// Path and body of a request.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let path = head.split(' ').nth(1)?.split('?').next()?.to_owned();
                return Some((path, body.to_owned()));
            }
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
}
