//! What can be wrong with one `[[oauth]]`.

use std::time::Duration;

use super::config::{Cloud, Preset, ProviderConfig};
use super::credentials::Credentials;
use super::preset;
use crate::net::connect::{ConnectError, Connector};
use crate::net::http::check_url;

/// The key, what is wrong with it, and what to write.
type Fault = (&'static str, String, String);

/// The bounds of the timeout.
const WAITS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// All faults of a section.
pub(super) fn faults(config: &ProviderConfig) -> Vec<Fault> {
    let mut faults = Vec::new();
    registration(config, &mut faults);
    proofs(config, &mut faults);
    urls(config, &mut faults);
    connection(config, &mut faults);
    faults
}

fn fault(key: &'static str, said: impl Into<String>, advice: &str) -> Fault {
    (key, said.into(), advice.to_owned())
}

fn registration(config: &ProviderConfig, faults: &mut Vec<Fault>) {
    if config.name.is_empty() || config.name.contains(char::is_control) {
        faults.push(fault("name", "the provider has no name", "add name = \"…\", by which sources refer to it"));
    }
    if config.client_id.is_empty() && config.service_account_file.is_none() {
        faults.push(fault(
            "client_id",
            "the application is not named",
            "add client_id = \"…\", as the provider shows it",
        ));
    }
    let microsoft = config.preset == Preset::Microsoft;
    if !microsoft && config.cloud != Cloud::Global {
        faults.push(fault("cloud", "only Microsoft has clouds", "take it out, or write preset = \"microsoft\""));
    }
    if !microsoft && config.tenant != "common" {
        faults.push(fault("tenant", "only Microsoft has tenants", "take it out, or write preset = \"microsoft\""));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if config.tenant.is_empty() || !config.tenant.chars().all(is_name) {
        let said = format!("\"{}\" is no directory", config.tenant);
        faults.push(fault("tenant", said, "write the directory's domain or id, or \"common\""));
    }
    if let Some(scopes) = &config.scopes {
        // RFC 6749 section 3.3.
        let is_scope = |scope: &String| {
            !scope.is_empty() && scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
        };
        if scopes.is_empty() || !scopes.iter().all(is_scope) {
            faults.push(fault("scopes", "it is empty or holds what is no scope", "write one scope in each string"));
        }
    }
}

fn proofs(config: &ProviderConfig, faults: &mut Vec<Fault>) {
    let (certificate, key) = (config.certificate_file.is_some(), config.private_key_file.is_some());
    match (config.client_secret_file.is_some(), certificate, key) {
        (true, true, _) => {
            let advice = "a client proves itself with one of the two: take out the other";
            faults.push(fault("certificate_file", "there is a client_secret_file as well", advice));
        }
        (_, true, false) => {
            let said = "the certificate's key is not named";
            faults.push(fault("certificate_file", said, "add private_key_file = \"…\""));
        }
        (_, false, true) => {
            let said = "the key's certificate is not named";
            faults.push(fault("private_key_file", said, "add certificate_file = \"…\""));
        }
        _ => {}
    }
    if config.service_account_file.is_some() && config.preset != Preset::Google {
        let advice = "take it out, or write preset = \"google\"";
        faults.push(fault("service_account_file", "only Google has service accounts of this kind", advice));
    }
    if let Err((key, said)) = Credentials::load(config) {
        faults.push(fault(key, said, "check the path, its permissions and what the file holds"));
    }
}

fn urls(config: &ProviderConfig, faults: &mut Vec<Fault>) {
    let urls = [
        ("issuer", &config.issuer),
        ("authorization_url", &config.authorization_url),
        ("token_url", &config.token_url),
        ("device_url", &config.device_url),
        ("userinfo_url", &config.userinfo_url),
        ("redirect_url", &config.redirect_url),
    ];
    for (key, url) in urls {
        if let Some(Err(said)) = url.as_deref().map(check_url) {
            faults.push(fault(key, said, "write an https:// URL; http:// is for this machine only"));
        }
    }
    let token = config.token_url.is_some() || preset::urls(config).token.is_some();
    if !token && config.issuer.is_none() {
        let advice = "add issuer = \"https://…\", or authorization_url and token_url, or a preset";
        faults.push(fault("issuer", "nothing says where tokens are granted", advice));
    }
}

fn connection(config: &ProviderConfig, faults: &mut Vec<Fault>) {
    if !WAITS.contains(&config.timeout) {
        let said = format!("{} is out of range", crate::units::show_duration(config.timeout));
        faults.push(fault("timeout", said, "write 1s to 5m"));
    }
    if let Err(error) = Connector::new(&config.connect()) {
        let key = if matches!(error, ConnectError::Proxy { .. }) { "proxy" } else { "ca_file" };
        let advice = "check the path and that it is PEM, or the proxy's address";
        faults.push(fault(key, error.to_string(), advice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_their_key() {
        let good = ProviderConfig { name: "x".into(), client_id: "id".into(), ..ProviderConfig::default() };
        let generic = ProviderConfig { issuer: Some("https://i.example".into()), ..good.clone() };
        let microsoft = ProviderConfig { preset: Preset::Microsoft, ..good.clone() };
        let google = ProviderConfig { preset: Preset::Google, ..good.clone() };
        let file = || Some("/nowhere/file".into());
        let table = [
            (generic.clone(), vec![]),
            (microsoft.clone(), vec![]),
            (google.clone(), vec![]),
            (ProviderConfig { token_url: Some("http://127.0.0.1:1/token".into()), ..good.clone() }, vec![]),
            (good.clone(), vec!["issuer"]),
            (ProviderConfig { name: String::new(), ..generic.clone() }, vec!["name"]),
            (ProviderConfig { client_id: String::new(), ..generic.clone() }, vec!["client_id"]),
            (ProviderConfig { cloud: Cloud::China, ..google.clone() }, vec!["cloud"]),
            (ProviderConfig { tenant: "t".into(), ..google.clone() }, vec!["tenant"]),
            (ProviderConfig { tenant: "a/b".into(), ..microsoft.clone() }, vec!["tenant"]),
            (ProviderConfig { scopes: Some(vec!["a b".into()]), ..google.clone() }, vec!["scopes"]),
            (ProviderConfig { client_secret_file: file(), ..google.clone() }, vec!["client_secret_file"]),
            (ProviderConfig { certificate_file: file(), ..microsoft.clone() }, vec!["certificate_file"]),
            (ProviderConfig { private_key_file: file(), ..microsoft.clone() }, vec!["private_key_file"]),
            (
                ProviderConfig { service_account_file: file(), ..microsoft.clone() },
                vec!["service_account_file", "service_account_file"],
            ),
            (ProviderConfig { token_url: Some("http://h/t".into()), ..google.clone() }, vec!["token_url"]),
            (ProviderConfig { redirect_url: Some("app:/cb".into()), ..google.clone() }, vec!["redirect_url"]),
            (ProviderConfig { timeout: Duration::ZERO, ..google.clone() }, vec!["timeout"]),
            (ProviderConfig { ca_file: file(), ..google.clone() }, vec!["ca_file"]),
            (ProviderConfig { proxy: Some("x".into()), ..google }, vec!["proxy"]),
        ];
        for (config, want) in table {
            let faults = faults(&config);
            assert_eq!(faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), want, "{faults:?}");
        }
    }

    #[test]
    fn a_section_is_read_and_never_shows_a_secret() {
        let text = r#"
            name = "m365"
            preset = "microsoft"
            cloud = "us_gov_dod"
            client_id = "id"
            client_secret_expires = 2027-05-31
            proxy = "http://u:hush@h:1"
            timeout = "10s"
        "#;
        let config: ProviderConfig = toml::from_str(text).unwrap();
        assert_eq!(config.client_secret_expires.unwrap().to_string(), "2027-05-31");
        assert_eq!((config.cloud, config.timeout), (Cloud::UsGovDod, Duration::from_secs(10)));
        assert!(!format!("{config:?}").contains("hush"));
        let quoted: ProviderConfig = toml::from_str(&text.replace("2027-05-31", "\"2027-05-31\"")).unwrap();
        assert_eq!(quoted, config);
        for wrong in ["client_secret_expires = \"soon\"", "client_secret_expires = 10:00:00", "secret = \"x\""] {
            assert!(toml::from_str::<ProviderConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
