use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::Value;

use super::*;

/// Header and claims of a token whose signature is good.
fn verified(token: &str, algorithm: &'static dyn VerificationAlgorithm, key: &rcgen::KeyPair) -> (Value, Value) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL.decode(signature).unwrap();
    let public = rcgen::PublicKeyData::der_bytes(key);
    UnparsedPublicKey::new(algorithm, public).verify(message.as_bytes(), &signature).unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let read = |part| serde_json::from_slice(&BASE64_URL.decode(part).unwrap()).unwrap();
    (read(header), read(claims))
}

fn certificate(key: &rcgen::KeyPair) -> rcgen::Certificate {
    let mut params = rcgen::CertificateParams::new(vec!["ticketgate.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2031, 2, 3);
    params.self_signed(key).unwrap()
}

#[tokio::test]
async fn a_certificate_proves_the_application_in_every_flow() {
    let bed = Bed::new().await;
    let rsa = rcgen::KeyPair::from_pem(&rsa_key()).unwrap();
    let ec = rcgen::KeyPair::generate().unwrap();
    let table: [(&rcgen::KeyPair, &str, &'static dyn VerificationAlgorithm); 2] =
        [(&rsa, "PS256", &RSA_PSS_2048_8192_SHA256), (&ec, "ES256", &ECDSA_P256_SHA256_FIXED)];
    for (key, algorithm, check) in table {
        let certificate = certificate(key);
        let config = ProviderConfig {
            client_secret_file: None,
            certificate_file: Some(bed.file("cert.pem", &certificate.pem())),
            private_key_file: Some(bed.file("key.pem", &key.serialize_pem())),
            tenant: "example.com".into(),
            client_secret_expires: Some("2031-02-02".parse().unwrap()),
            ..bed.config(Preset::Microsoft)
        };
        assert_eq!(config.faults(), Vec::new());
        let oauth = bed.oauth(&config);
        assert_eq!(oauth.client_expires().unwrap().to_string(), "2031-02-02T00:00:00Z");
        let mut numbers = Vec::new();
        for flow in ["app", "refresh", "code", "device"] {
            bed.script.json(200, FULL);
            match flow {
                "app" => drop(oauth.app("a@b").await.unwrap()),
                "refresh" => drop(oauth.refresh(&SecretString::from("r".to_owned())).await.unwrap()),
                "code" => {
                    let CodeRequest { url, pending } = oauth.begin_code("http://localhost/cb", None).await.unwrap();
                    let redirected = format!("code=c&state={}", param(&url, "state").unwrap());
                    // Without an ID token userinfo is asked, and that is not what this is about.
                    drop(oauth.finish_code(pending, &redirected).await);
                }
                _ => drop(oauth.begin_device().await),
            }
            let asked = bed.script.asked().remove(0);
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            assert_eq!(asked.form["client_assertion_type"], kind, "{flow}");
            assert!(!asked.form.contains_key("client_secret"));
            assert_eq!(asked.form["client_id"], "me");
            let (header, claims) = verified(&asked.form["client_assertion"], check, key);
            assert_eq!((&header["alg"], &header["typ"]), (&algorithm.into(), &"JWT".into()));
            let thumbprint = ring::digest::digest(&ring::digest::SHA256, certificate.der());
            assert_eq!(header["x5t#S256"], BASE64_URL.encode(thumbprint));
            assert_eq!((&claims["iss"], &claims["sub"]), (&"me".into(), &"me".into()));
            assert_eq!(claims["aud"], format!("{}/token", bed.url));
            let now = bed.clock().now().as_second();
            assert_eq!((claims["nbf"].as_i64(), claims["exp"].as_i64()), (Some(now - 60), Some(now + 600)));
            numbers.push(claims["jti"].as_str().unwrap().to_owned());
        }
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), 4, "each is good for one use");
    }
}

#[tokio::test]
async fn an_application_gets_access_by_its_secret_where_it_can() {
    let bed = Bed::new().await;
    let microsoft = ProviderConfig { tenant: "example.com".into(), ..bed.config(Preset::Microsoft) };
    bed.script.json(200, r#"{"access_token":"acc","token_type":"Bearer","expires_in":3599}"#);
    let grant = bed.oauth(&microsoft).app("shared@example.com").await.unwrap();
    assert_eq!((grant.identity, grant.refresh.is_none()), (Identity::default(), true));
    let asked = bed.asked();
    assert_eq!((&*asked.form["grant_type"], &*asked.form["client_secret"]), ("client_credentials", "hush-hush"));
    assert_eq!(asked.form["scope"], "https://outlook.office365.com/.default");
    let table = [
        ProviderConfig { tenant: "common".into(), ..microsoft.clone() },
        ProviderConfig { client_secret_file: None, ..microsoft.clone() },
    ];
    for config in table {
        assert_eq!(word(&bed.oauth(&config).app("x@y").await.unwrap_err()), "config");
    }
    let generic = ProviderConfig { scopes: Some(vec!["mail".into()]), ..bed.config(Preset::Generic) };
    bed.script.json(200, &FULL.replace('}', r#","scope":"other"}"#));
    assert_eq!(word(&bed.oauth(&generic).app("x@y").await.unwrap_err()), "missing mail");
}

#[tokio::test]
async fn a_service_account_acts_for_a_mailbox() {
    let bed = Bed::new().await;
    let key = serde_json::json!({
        "type": "service_account", "client_email": "gate@project.iam.gserviceaccount.com", "private_key_id": "k1",
        "private_key": rsa_key(), "token_uri": "https://oauth2.googleapis.com/token",
    });
    let config = ProviderConfig {
        client_secret_file: None,
        client_id: String::new(),
        service_account_file: Some(bed.file("key.json", &key.to_string())),
        ..bed.config(Preset::Google)
    };
    assert_eq!(config.faults(), Vec::new());
    let oauth = bed.oauth(&config);
    assert!(oauth.has_service_account());
    bed.script.json(200, r#"{"access_token":"acc","token_type":"Bearer","expires_in":3599}"#);
    let grant = oauth.app("Help@Example.com").await.unwrap();
    assert_eq!(grant.identity.addresses, ["help@example.com"]);
    let asked = bed.asked();
    assert_eq!(asked.form.len(), 2, "no client takes part: {:?}", asked.form);
    assert_eq!(asked.form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let public = rcgen::KeyPair::from_pem(&rsa_key()).unwrap();
    let (header, claims) = verified(&asked.form["assertion"], &RSA_PKCS1_2048_8192_SHA256, &public);
    assert_eq!((&header["alg"], &header["kid"]), (&"RS256".into(), &"k1".into()));
    assert_eq!((&claims["iss"], &claims["sub"]), (&key["client_email"], &"Help@Example.com".into()));
    assert_eq!(
        (&claims["scope"], &claims["aud"]),
        (&"https://mail.google.com/".into(), &format!("{}/token", bed.url).into())
    );
    let refused = r#"{"error":"unauthorized_client","error_description":"Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested."}"#;
    bed.script.json(401, refused);
    assert_eq!(word(&oauth.app("x@y").await.unwrap_err()), "consent");
}

#[tokio::test]
async fn files_that_cannot_work_are_named_and_not_shown() {
    let bed = Bed::new().await;
    let (one, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let cert = || Some(bed.file("cert.pem", &certificate(&one).pem()));
    let base = ProviderConfig { client_secret_file: None, ..bed.config(Preset::Google) };
    let file = |name: &str, text: &str| Some(bed.file(name, text));
    let json = |key: &str| format!(r#"{{"client_email":"e","private_key_id":"k","private_key":"{key}"}}"#);
    let ec_json = json(&other.serialize_pem().replace("\r\n", "\\n").replace('\n', "\\n"));
    let table = [
        (ProviderConfig { client_secret_file: file("a", "\n"), ..base.clone() }, "it is empty"),
        (ProviderConfig { client_secret_file: file("b", &"hush".repeat(20_000)), ..base.clone() }, "longer than"),
        (
            ProviderConfig {
                certificate_file: cert(),
                private_key_file: file("c", &other.serialize_pem()),
                ..base.clone()
            },
            "it is not the key of",
        ),
        (
            ProviderConfig { certificate_file: cert(), private_key_file: file("d", "hush"), ..base.clone() },
            "no private key in PEM",
        ),
        (
            ProviderConfig {
                certificate_file: file("e", "hush"),
                private_key_file: file("f", &one.serialize_pem()),
                ..base.clone()
            },
            "no certificate in PEM",
        ),
        (ProviderConfig { service_account_file: file("g", "{\"hush\":"), ..base.clone() }, "JSON key"),
        (ProviderConfig { service_account_file: file("h", &json("hush")), ..base.clone() }, "not a key in PEM"),
        (ProviderConfig { service_account_file: file("i", &ec_json), ..base.clone() }, "not an RSA key"),
    ];
    for (config, want) in table {
        let error = OAuth::new(&config, bed.clock()).unwrap_err();
        let shown = error.to_string();
        assert_eq!(word(&error), "config");
        assert!(shown.contains(want) && !shown.contains("hush"), "{shown}");
        assert_eq!(config.faults().len(), 1);
    }
}
