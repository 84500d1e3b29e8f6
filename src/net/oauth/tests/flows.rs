use sha2::{Digest, Sha256};

use super::*;

#[tokio::test]
async fn a_code_is_asked_for_and_exchanged() {
    let bed = Bed::new().await;
    for (preset, basic, extra) in [
        (Preset::Microsoft, false, None),
        (Preset::Google, false, Some(("access_type", "offline"))),
        (Preset::Generic, true, Some(("prompt", "consent"))),
    ] {
        let oauth = bed.oauth(&bed.config(preset));
        let back = "http://127.0.0.1:5/cb";
        let CodeRequest { url, pending } = oauth.begin_code(back, Some("help@example.com")).await.unwrap();
        assert!(bed.script.asked().is_empty(), "nothing is asked before the browser is back");
        assert!(url.starts_with(&format!("{}/auth?", bed.url)));
        let get = |key| param(&url, key).unwrap_or_default();
        assert_eq!(
            (get("response_type"), get("client_id"), get("redirect_uri")),
            ("code".into(), "me".into(), back.into())
        );
        assert_eq!((get("code_challenge_method"), get("login_hint")), ("S256".into(), "help@example.com".into()));
        assert_eq!(get("scope"), bed.config(preset).scopes(ScopeUse::Imap).join(" "));
        if let Some((key, value)) = extra {
            assert_eq!(get(key), value);
        }
        let (state, nonce) = (get("state"), get("nonce"));
        assert!(state.len() >= 43 && nonce.len() >= 43 && state != nonce);
        let shown = format!("{pending:?}");
        assert!(!shown.contains(&state) && !shown.contains(&nonce), "{shown}");

        bed.script.json(200, &bed.grant(Some(&nonce), "Help@Example.com", ""));
        let redirected = format!("{back}?code=the%20code&state={state}&session_state=x#frag");
        assert!(pending.is_for(&redirected) && !pending.is_for("?state=x"));
        let grant = oauth.finish_code(pending, &redirected).await.unwrap();
        let asked = bed.asked();
        assert_eq!(asked.line, "POST /token");
        assert_eq!((&*asked.form["grant_type"], &*asked.form["code"]), ("authorization_code", "the code"));
        assert_eq!(asked.form["redirect_uri"], back);
        assert_eq!(BASE64_URL.encode(Sha256::digest(&asked.form["code_verifier"])), get("code_challenge"));
        assert_eq!(asked.fields.contains_key("authorization"), basic);
        assert_eq!(asked.form.get("client_secret").map(String::as_str), (!basic).then_some("hush-hush"));
        assert_eq!((grant.access.expose_secret(), grant.refresh.unwrap().expose_secret()), ("acc", "ref-2"));
        assert_eq!(grant.expires_at.unwrap().to_string(), "2026-03-01T13:00:00Z");
        assert_eq!(grant.identity.addresses, ["help@example.com"]);
        assert_eq!(grant.identity.subject.as_deref(), Some("7"));
    }
}

#[tokio::test]
async fn what_the_browser_brings_back_is_checked_before_anything_is_sent() {
    let bed = Bed::new().await;
    let oauth = bed.oauth(&bed.config(Preset::Generic));
    let iss = url::form_urlencoded::byte_serialize(bed.url.as_bytes()).collect::<String>();
    let table = [
        ("?code=c&state=wrong".to_owned(), "state"),
        ("?code=c".into(), "state"),
        ("?code=c&state=".into(), "state"),
        ("?error=access_denied&state=wrong".into(), "state"),
        ("http://h/cb?code=c&state=STATE&iss=https%3A%2F%2Fother".into(), "state"),
        ("state=STATE&error=access_denied&error_description=No".into(), "declined"),
        ("state=STATE&error=access_denied&error_description=AADSTS65004%3A+x".into(), "declined"),
        ("state=STATE&error=admin_policy_enforced".into(), "consent"),
        ("state=STATE&error=invalid_scope".into(), "config"),
        ("state=STATE&error=temporarily_unavailable".into(), "trouble"),
        ("state=STATE".into(), "protocol"),
        ("state=STATE&code=".into(), "protocol"),
        ("state=STATE&code=a&code=b".into(), "protocol"),
        (format!("state=STATE&code={}", "x".repeat(20_000)), "protocol"),
        // The last three are sent, and nothing answers.
        (format!("state=STATE&code=a&iss={iss}"), "trouble"),
        ("/cb?state=STATE&code=a".into(), "trouble"),
        ("?state=STATE&code=a".into(), "trouble"),
    ];
    for (redirected, want) in table {
        let CodeRequest { url, pending } = oauth.begin_code("http://localhost/cb", None).await.unwrap();
        let redirected = redirected.replace("STATE", &param(&url, "state").unwrap());
        let error = oauth.finish_code(pending, &redirected).await.unwrap_err();
        assert_eq!(word(&error), want, "{redirected}: {error}");
    }
    assert_eq!(bed.script.asked().len(), 3);
    let CodeRequest { url, pending } = oauth.begin_code("http://localhost/cb", None).await.unwrap();
    bed.pass(Duration::from_secs(3601));
    let late = format!("code=c&state={}", param(&url, "state").unwrap());
    assert_eq!(word(&oauth.finish_code(pending, &late).await.unwrap_err()), "expired");
    assert_eq!(word(&oauth.begin_code("http://example.com/cb", None).await.unwrap_err()), "config");
}

#[tokio::test]
async fn a_code_that_grants_something_else_is_refused() {
    let bed = Bed::new().await;
    let oauth = bed.oauth(&ProviderConfig {
        scopes: Some(vec!["imap".into(), "smtp".into(), "openid".into()]),
        ..bed.config(Preset::Generic)
    });
    let dead = r#"{"error":"invalid_grant","error_description":"the code has expired"}"#;
    let table = [
        (200, bed.grant(Some("NONCE"), "a@b", r#","scope":"imap smtp""#), "granted"),
        (200, bed.grant(Some("NONCE"), "a@b", r#","scope":"imap""#), "missing smtp"),
        (200, bed.grant(Some("other"), "a@b", ""), "nonce"),
        (200, bed.grant(None, "a@b", ""), "nonce"),
        (400, dead.into(), "expired"),
        (400, r#"{"error":"invalid_grant","error_description":"PKCE"}"#.into(), "grant Unknown"),
    ];
    for (status, answer, want) in table {
        let CodeRequest { url, pending } = oauth.begin_code("http://localhost/cb", None).await.unwrap();
        let nonce = param(&url, "nonce").unwrap();
        // The nonce stands inside the encoded claims.
        let answer = match answer.contains("id_token") {
            true if want == "granted" => bed.grant(Some(&nonce), "a@b", r#","scope":"imap smtp""#),
            true if want.starts_with("missing") => bed.grant(Some(&nonce), "a@b", r#","scope":"imap""#),
            _ => answer,
        };
        bed.script.json(status, &answer);
        let redirected = format!("code=c&state={}", param(&url, "state").unwrap());
        let got = oauth.finish_code(pending, &redirected).await;
        assert_eq!(got.as_ref().map_or_else(word, |_| "granted".into()), want);
    }
}

#[tokio::test]
async fn userinfo_is_asked_where_the_id_token_names_nobody() {
    let bed = Bed::new().await;
    let oauth = bed.oauth(&bed.config(Preset::Generic));
    let table = [
        (200, r#"{"sub":"7","preferred_username":"a@b"}"#, Ok("a@b")),
        (200, r#"{"sub":"8","email":"a@b"}"#, Err("protocol")),
        (503, "{}", Err("trouble")),
    ];
    for (status, answer, want) in table {
        let CodeRequest { url, pending } = oauth.begin_code("http://localhost/cb", None).await.unwrap();
        bed.script.json(200, &bed.grant(param(&url, "nonce").as_deref(), "", ""));
        bed.script.json(status, answer);
        let redirected = format!("code=c&state={}", param(&url, "state").unwrap());
        match (oauth.finish_code(pending, &redirected).await, want) {
            (Ok(grant), Ok(address)) => assert_eq!(grant.identity.addresses, [address]),
            (Err(error), Err(want)) => assert_eq!(word(&error), want),
            (got, want) => panic!("{got:?} instead of {want:?}"),
        }
        let asked = bed.script.asked();
        assert_eq!((&*asked[1].line, &*asked[1].fields["authorization"]), ("GET /userinfo", "Bearer acc"));
    }
}

#[tokio::test]
async fn a_device_is_waited_for_at_the_servers_pace() {
    let bed = Bed::new().await;
    let oauth = bed.oauth(&bed.config(Preset::Microsoft));
    let offer = r#"{"device_code":"dev-secret","user_code":"ABCD-EFGH","verification_uri":"https://microsoft.com/devicelogin","expires_in":900,"interval":5}"#;
    let pending = r#"{"error":"authorization_pending"}"#;
    let slow = r#"{"error":"slow_down"}"#;
    let granted = bed.grant(None, "a@b", "");
    type Answers<'a> = Vec<(u16, &'a str)>;
    let table: Vec<(Answers, &str, &[u64])> = vec![
        (vec![(400, pending), (400, slow), (503, "{}"), (200, &granted)], "granted", &[5, 5, 10, 20]),
        (vec![(400, r#"{"error":"access_denied"}"#)], "declined", &[5]),
        (vec![(400, r#"{"error":"authorization_declined"}"#)], "declined", &[5]),
        (vec![(400, pending), (400, r#"{"error":"expired_token"}"#)], "expired", &[5, 5]),
        (
            vec![(401, r#"{"error":"invalid_client","error_description":"AADSTS7000222"}"#)],
            "client SecretExpired",
            &[5],
        ),
        // 10, 20, 40, then 60 each: 900 seconds are over with the sixteenth wait.
        (vec![(500, "{}"); 17], "expired", &[5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60]),
    ];
    for (answers, want, waits) in table {
        bed.script.json(200, offer);
        let DeviceRequest { user_code, verification_url, pending, expires_at, .. } =
            oauth.begin_device().await.unwrap();
        assert_eq!((&*user_code, &*verification_url), ("ABCD-EFGH", "https://microsoft.com/devicelogin"));
        assert_eq!(expires_at.duration_since(bed.clock().now()).as_secs(), 900);
        assert!(!format!("{pending:?}").contains("dev-secret"));
        let asked = bed.asked();
        assert_eq!(asked.line, "POST /device");
        assert!(asked.form["scope"].contains("IMAP.AccessAsUser.All"));
        let questions = answers.len();
        for (status, answer) in answers {
            bed.script.json(status, answer);
        }
        let slept = Mutex::new(Vec::new());
        let got = oauth
            .wait(pending, |time| {
                slept.lock().unwrap().push(time.as_secs());
                bed.pass(time);
                std::future::ready(())
            })
            .await;
        assert_eq!(got.as_ref().map_or_else(word, |_| "granted".into()), want);
        assert_eq!(slept.into_inner().unwrap(), waits);
        let asked = bed.script.asked();
        assert_eq!(asked.len(), questions);
        assert_eq!((&*asked[0].form["device_code"], &*asked[0].form["client_id"]), ("dev-secret", "me"));
        assert_eq!(asked[0].form["grant_type"], "urn:ietf:params:oauth:grant-type:device_code");
    }
    // A server that wants more patience than we would have gets it, and may ask for more still.
    bed.script.json(200, &offer.replace("\"interval\":5", "\"interval\":120"));
    let patient = oauth.begin_device().await.unwrap();
    let granted = bed.grant(None, "a@b", "");
    let answers = [(400, pending), (400, slow), (503, "{}"), (200, granted.as_str())];
    answers.iter().for_each(|(status, answer)| bed.script.json(*status, answer));
    let slept = Mutex::new(Vec::new());
    let sleep = |time: Duration| {
        slept.lock().unwrap().push(time.as_secs());
        std::future::ready(())
    };
    oauth.wait(patient.pending, sleep).await.unwrap();
    assert_eq!(slept.into_inner().unwrap(), [120, 120, 125, 125]);
    bed.script.asked();
    let none = bed.oauth(&ProviderConfig { device_url: None, ..bed.config(Preset::Google) });
    assert_eq!(word(&none.begin_device().await.unwrap_err()), "config");
}

#[tokio::test]
async fn a_refresh_brings_the_rotated_token_and_asks_as_the_provider_wants() {
    let bed = Bed::new().await;
    let old = SecretString::from("ref-1".to_owned());
    for (preset, scopes) in [(Preset::Microsoft, true), (Preset::Google, false), (Preset::Generic, false)] {
        let oauth = bed.oauth(&bed.config(preset));
        bed.script.json(200, FULL);
        let grant = oauth.refresh(&old).await.unwrap();
        assert_eq!(grant.refresh.unwrap().expose_secret(), "ref-2");
        let asked = bed.asked();
        assert_eq!((&*asked.form["grant_type"], &*asked.form["refresh_token"]), ("refresh_token", "ref-1"));
        assert_eq!(asked.form.contains_key("scope"), scopes, "{preset:?}");
        // Whatever is odd about an answer that grants: the old token may be dead by now, so the new one is kept.
        bed.script.json(200, &FULL.replace('}', r#","id_token":"rubbish","scope":"less"}"#));
        let grant = oauth.refresh(&old).await.unwrap();
        assert!(grant.refresh.is_some());
        assert_eq!(oauth.missing_scopes(&grant).is_empty(), preset == Preset::Generic);
        bed.script.json(200, r#"{"access_token":"acc","token_type":"Bearer"}"#);
        let grant = oauth.refresh(&old).await.unwrap();
        assert!(grant.refresh.is_none() && grant.expires_at.is_none() && oauth.missing_scopes(&grant).is_empty());
        bed.script.asked();
    }
    for (client_auth, basic) in [(ClientAuth::ClientSecretBasic, true), (ClientAuth::ClientSecretPost, false)] {
        let oauth = bed.oauth(&ProviderConfig { client_auth, ..bed.config(Preset::Generic) });
        bed.script.json(200, FULL);
        oauth.refresh(&old).await.unwrap();
        assert_eq!(bed.asked().fields.contains_key("authorization"), basic);
    }
    let secret = bed.oauth(&bed.config(Preset::Google));
    assert!(!format!("{secret:?}").contains("hush"));
}

#[tokio::test]
async fn discovery_is_compared_kept_and_renewed() {
    let bed = Bed::new().await;
    let config = ProviderConfig { authorization_url: None, token_url: None, ..bed.config(Preset::Generic) };
    let document = |issuer: &str| {
        let (url, more) = (&bed.url, r#""token_endpoint_auth_methods_supported":["client_secret_post"]"#);
        let named = r#""authorization_response_iss_parameter_supported":true"#;
        format!(
            r#"{{"issuer":"{issuer}","authorization_endpoint":"{url}/a","token_endpoint":"{url}/t",{more},{named}}}"#
        )
    };
    let begin = async |oauth: &OAuth| {
        oauth.begin_code("http://localhost/cb", None).await.map(|request| request.url).map_err(|error| word(&error))
    };
    // Found at the second place, and then remembered.
    let oauth = bed.oauth(&config);
    bed.script.raw(404, "Content-Type: text/html\r\n", "no");
    bed.script.json(200, &document(&bed.url));
    assert!(begin(&oauth).await.unwrap().starts_with(&format!("{}/a?", bed.url)));
    assert!(begin(&oauth).await.is_ok());
    let lines: Vec<String> = bed.script.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /.well-known/openid-configuration", "GET /.well-known/oauth-authorization-server"]);
    // Where the document says so, the answer must name the issuer (RFC 9207), and the secret goes into the body.
    let request = oauth.begin_code("http://localhost/cb", None).await.unwrap();
    let state = param(&request.url, "state").unwrap();
    let error = oauth.finish_code(request.pending, &format!("code=c&state={state}")).await.unwrap_err();
    assert_eq!(word(&error), "state");
    bed.script.json(200, FULL);
    oauth.refresh(&SecretString::from("r".to_owned())).await.unwrap();
    let asked = bed.asked();
    assert_eq!((&*asked.line, &*asked.form["client_secret"]), ("POST /t", "hush-hush"));
    // Renewed after a day; while the provider has trouble the old one serves.
    bed.pass(Duration::from_secs(25 * 3600));
    bed.script.json(503, "{}");
    assert!(begin(&oauth).await.is_ok());
    bed.script.json(200, &document(&bed.url).replace("/a\"", "/new\""));
    assert!(begin(&oauth).await.unwrap().starts_with(&format!("{}/new?", bed.url)));
    let table = [
        (200, document("https://evil.example"), "config"),
        (200, document(&format!("{}/", bed.url)), "config"),
        (200, document(&bed.url).replace(&format!("{}/t", bed.url), "http://evil.example/t"), "config"),
        (200, "[]".into(), "protocol"),
        (503, "{}".into(), "trouble"),
    ];
    for (status, answer, want) in table {
        bed.script.json(status, &answer);
        assert_eq!(begin(&bed.oauth(&config)).await.unwrap_err(), want, "{answer}");
    }
    bed.script.json(404, "{}");
    bed.script.json(404, "{}");
    assert_eq!(begin(&bed.oauth(&config)).await.unwrap_err(), "config");
}

#[tokio::test]
async fn a_token_that_is_shown_belongs_to_somebody_or_to_nobody() {
    let bed = Bed::new().await;
    let config = ProviderConfig {
        introspection_url: Some(format!("{}/introspect", bed.url)),
        client_auth: ClientAuth::ClientSecretPost,
        ..bed.config(Preset::Generic)
    };
    let oauth = bed.oauth(&config);
    let table = [
        (r#"{"active":true,"client_id":"me","username":"crm@example.com","sub":"7"}"#, vec!["crm@example.com", "7"]),
        (r#"{"active":true,"aud":["x","me"],"sub":"7","exp":4102444800}"#, vec!["7"]),
        (r#"{"active":true,"client_id":"another","username":"crm@example.com"}"#, vec![]),
        (r#"{"active":true,"client_id":"me","username":"crm@example.com","exp":1}"#, vec![]),
        (r#"{"active":false}"#, vec![]),
    ];
    for (answer, want) in table {
        bed.script.json(200, answer);
        assert_eq!(oauth.owners(&"shown".to_owned().into()).await.unwrap(), want, "{answer}");
        let asked = bed.asked();
        let field = |name: &str| asked.form.get(name).map(String::as_str);
        assert_eq!((asked.line.as_str(), field("token")), ("POST /introspect", Some("shown")));
        assert_eq!((field("client_id"), field("client_secret")), (Some("me"), Some("hush-hush")));
    }
    bed.script.json(503, "{}");
    assert!(oauth.owners(&"shown".to_owned().into()).await.unwrap_err().passes());
    let without = bed.oauth(&bed.config(Preset::Generic));
    assert!(matches!(without.owners(&"shown".to_owned().into()).await, Err(OAuthError::Config(_))));
}
