use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[tokio::test]
async fn only_a_refusal_in_so_many_words_ends_a_grant() {
    const JSON: &str = "Content-Type: application/json\r\n";
    const HTML: &str = "Content-Type: text/html\r\n";
    let bed = Bed::new().await;
    let long = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "x".repeat(1 << 20));
    let dead = r#"{"error":"invalid_grant"}"#;
    let table = [
        (400, JSON, dead, "grant Unknown"),
        (400, "content-type: Application/JSON; charset=utf-8\r\n", dead, "grant Unknown"),
        (401, JSON, dead, "grant Unknown"),
        (200, JSON, dead, "grant Unknown"),
        (400, HTML, dead, "trouble"),
        (400, "", dead, "trouble"),
        (500, JSON, dead, "trouble"),
        (503, "Content-Type: text/html\r\nRetry-After: 17\r\n", "<html>busy", "trouble 17"),
        (429, "Content-Type: application/json\r\nRetry-After: 60\r\n", dead, "trouble 60"),
        (429, "", "", "trouble"),
        (200, HTML, "<html>Log in to the hotel's network", "trouble"),
        (200, JSON, "", "protocol"),
        (200, JSON, "{", "protocol"),
        (200, JSON, r#"{"token_type":"Bearer"}"#, "protocol"),
        (200, JSON, r#"{"access_token":7,"token_type":"Bearer"}"#, "protocol"),
        (200, JSON, &long, "trouble"),
        (302, "Location: https://evil.example/\r\n", "", "protocol"),
        (307, "Location: https://evil.example/\r\n", "", "protocol"),
        (403, JSON, r#"{"message":"no"}"#, "protocol"),
        (404, HTML, "not here", "protocol"),
        (401, JSON, r#"{"error":"invalid_client"}"#, "client Unknown"),
        (400, JSON, r#"{"error":"invalid_grant","error_description":"AADSTS700082: x"}"#, "grant Unused"),
    ];
    let oauth = bed.oauth(&bed.config(Preset::Google));
    for (status, fields, body, want) in table {
        bed.script.raw(status, fields, body);
        let error = oauth.refresh(&SecretString::from("ref-1".to_owned())).await.unwrap_err();
        assert_eq!(word(&error), want, "{status} {fields} {}: {error}", &body[..body.len().min(60)]);
        bed.asked();
    }
}

#[tokio::test]
async fn a_secret_that_a_server_repeats_is_not_shown() {
    let bed = Bed::new().await;
    // A secret in the Authorization field travels encoded, with the client's name before it.
    for (preset, secrets) in [(Preset::Google, &["ref-1", "hush"][..]), (Preset::Generic, &["ref-1", "hush", "bWU6"])] {
        let oauth = bed.oauth(&bed.config(preset));
        for answer in [
            r#"{"error":"x","error_description":"got ref-1 and hush-hush and bWU6aHVzaC1odXNo"}"#,
            r#"{"error":"invalid_grant","error_description":"hush-hush","error_subtype":"ref-1"}"#,
            r#"{"error":"ref-1"}"#,
            r#"{"access_token":["ref-1"],"token_type":"Bearer"}"#,
            r#"{"access_token":"a","token_type":"Bearer","refresh_token":["ref-1"]}"#,
        ] {
            let status = if answer.contains("error") { 400 } else { 200 };
            bed.script.json(status, answer);
            let error = oauth.refresh(&SecretString::from("ref-1".to_owned())).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            for secret in secrets {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_trouble_that_passes() {
    let bed = Bed::new().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let short = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (silent_at, short_at) = (silent.local_addr().unwrap(), short.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = short.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{").await;
        }
    });
    let (brief, long) = (Duration::from_millis(300), Duration::from_secs(5));
    for (at, timeout, want) in [(gone, long, "connect"), (silent_at, brief, "connect"), (short_at, long, "trouble")] {
        let config =
            ProviderConfig { token_url: Some(format!("http://{at}/token")), timeout, ..bed.config(Preset::Google) };
        let error = bed.oauth(&config).refresh(&SecretString::from("r".to_owned())).await.unwrap_err();
        assert_eq!(word(&error), want, "{error}");
        assert!(error.passes());
    }
}

/// A proxy that leads every name to this server by HTTP CONNECT, and notes what it was asked.
async fn connect_proxy(to: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            noted.lock().unwrap().push(String::from_utf8(head).unwrap());
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut server = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut socket, &mut server).await });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_provider_is_reached_by_tls_through_a_proxy() {
    let bed = Bed::new().await;
    let made = rcgen::generate_simple_self_signed(vec!["idp.example".to_owned()]).unwrap();
    let ca = bed.file("ca.pem", &made.cert.pem());
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, asked) = connect_proxy(listener.local_addr().unwrap().to_string()).await;
    let script = bed.script.clone();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(socket).await {
                script.serve(stream).await;
            }
        }
    });
    let config = ProviderConfig {
        token_url: Some("https://idp.example/token?x=1".into()),
        proxy: Some(format!("http://u:p%40ss@127.0.0.1:{port}").as_str().into()),
        ca_file: Some(ca),
        ..bed.config(Preset::Google)
    };
    bed.script.json(200, FULL);
    let token = SecretString::from("r".to_owned());
    bed.oauth(&config).refresh(&token).await.unwrap();
    let question = bed.asked();
    assert_eq!((&*question.line, &*question.fields["host"]), ("POST /token?x=1", "idp.example"));
    assert!(question.fields["user-agent"].starts_with("ticketgate/"));
    let head = asked.lock().unwrap().remove(0);
    assert!(head.starts_with("CONNECT idp.example:443 ") && head.contains("Basic dTpwQHNz\r\n"), "{head}");
    // Without the authority its certificate is a stranger's.
    let error = bed.oauth(&ProviderConfig { ca_file: None, ..config.clone() }).refresh(&token).await.unwrap_err();
    assert!(matches!(error, OAuthError::Connect(crate::net::connect::ConnectError::Certificate { .. })), "{error}");
    // This machine is reached without the proxy, and nobody else in clear.
    bed.script.json(200, FULL);
    asked.lock().unwrap().clear();
    let local = ProviderConfig { token_url: Some(format!("{}/token", bed.url)), ..config.clone() };
    bed.oauth(&local).refresh(&token).await.unwrap();
    let clear = ProviderConfig { token_url: Some("http://idp.example/token".into()), ..config };
    assert_eq!(word(&bed.oauth(&clear).refresh(&token).await.unwrap_err()), "config");
    assert!(asked.lock().unwrap().is_empty());
}
