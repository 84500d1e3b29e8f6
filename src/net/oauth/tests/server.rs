//! A provider that answers what it was told to, in order, and notes what it was asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    pub fields: HashMap<String, String>,
    pub form: HashMap<String, String>,
}

#[derive(Clone, Default)]
pub struct Script {
    answers: Arc<Mutex<VecDeque<String>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    /// The next answer is this status with JSON.
    pub fn json(&self, status: u16, body: &str) {
        self.raw(status, "Content-Type: application/json\r\n", body);
    }

    pub fn raw(&self, status: u16, fields: &str, body: &str) {
        let length = body.len();
        let text = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
        self.answers.lock().unwrap().push_back(text);
    }

    /// What was asked since this was last called.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Answers one request on a connection.
    pub async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let fields: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(key, value)| (key.to_lowercase(), value.to_owned()))
            .collect();
        let length = fields.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let form = url::form_urlencoded::parse(&body).into_owned().collect();
        self.asked.lock().unwrap().push(Asked { line, fields, form });
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| "HTTP/1.1 599 Unexpected\r\nContent-Length: 0\r\n\r\n".into());
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.flush().await;
    }

    /// Listens on loopback; gives the URL without a slash at its end.
    pub async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let script = script.clone();
                tokio::spawn(async move { script.serve(socket).await });
            }
        });
        url
    }
}
