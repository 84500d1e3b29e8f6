//! What is known of Microsoft and Google: hosts, paths, scopes.

use super::config::{Cloud, Preset, ProviderConfig, ScopeUse};
use super::endpoints::{Issuer, Urls};

/// What is asked for beside access to mail: a refresh token, and who signed in.
const IDENTITY: [&str; 4] = ["offline_access", "openid", "profile", "email"];

/// The scopes of the preset.
pub(super) fn scopes(config: &ProviderConfig, use_: ScopeUse) -> Vec<String> {
    let fixed = |list: &[&str]| list.iter().map(|scope| (*scope).to_owned()).collect();
    match (config.preset, use_) {
        (_, ScopeUse::Graph) => fixed(&["openid", "offline_access", "User.Read", "Mail.Send", "Mail.ReadWrite"]),
        (Preset::Google, ScopeUse::Imap) => fixed(&["https://mail.google.com/", "openid", "email"]),
        (Preset::Microsoft, ScopeUse::Imap) => {
            let host = outlook(config.cloud);
            let mail = ["IMAP.AccessAsUser.All", "SMTP.Send"].map(|scope| format!("https://{host}/{scope}"));
            mail.into_iter().chain(IDENTITY.map(str::to_owned)).collect()
        }
        (Preset::Generic, ScopeUse::Imap) => fixed(&["openid", "email", "offline_access"]),
    }
}

/// The scopes of access without a person: those that are configured, or the preset's.
pub(super) fn app_scopes(config: &ProviderConfig) -> Vec<String> {
    if let Some(scopes) = &config.scopes {
        return scopes.clone();
    }
    match config.preset {
        Preset::Google => vec!["https://mail.google.com/".to_owned()],
        Preset::Microsoft => vec![format!("https://{}/.default", config.cloud.mail_host())],
        Preset::Generic => Vec::new(),
    }
}

/// The URLs of the preset; a generic provider has none.
pub(super) fn urls(config: &ProviderConfig) -> Urls {
    let text = |url: &str| Some(url.to_owned());
    match config.preset {
        Preset::Generic => Urls::default(),
        Preset::Google => Urls {
            authorization: text("https://accounts.google.com/o/oauth2/v2/auth"),
            token: text("https://oauth2.googleapis.com/token"),
            // Google has device codes, and does not give them access to mail.
            device: None,
            userinfo: text("https://openidconnect.googleapis.com/v1/userinfo"),
        },
        Preset::Microsoft => {
            let base = format!("https://{}/{}/oauth2/v2.0", login(config.cloud), config.tenant);
            Urls {
                authorization: Some(format!("{base}/authorize")),
                token: Some(format!("{base}/token")),
                device: Some(format!("{base}/devicecode")),
                // Its userinfo wants a token for Graph, which a token for mail is not; the identity says enough.
                userinfo: None,
            }
        }
    }
}

/// Who signs the identities of the preset.
pub(super) fn issuer(config: &ProviderConfig) -> Issuer {
    match (&config.issuer, config.preset) {
        (Some(issuer), _) => Issuer::Exactly(vec![issuer.clone()]),
        (None, Preset::Google) => {
            Issuer::Exactly(vec!["https://accounts.google.com".into(), "accounts.google.com".into()])
        }
        (None, Preset::Microsoft) => Issuer::Microsoft { hosts: signers(config.cloud) },
        (None, Preset::Generic) => Issuer::Unknown,
    }
}

/// Where people of a Microsoft cloud sign in.
fn login(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "login.microsoftonline.com",
        Cloud::UsGov | Cloud::UsGovDod => "login.microsoftonline.us",
        Cloud::China => "login.chinacloudapi.cn",
    }
}

/// The hosts whose names stand in the identities of a Microsoft cloud. China's is another one than people sign in at.
fn signers(cloud: Cloud) -> &'static [&'static str] {
    match cloud {
        Cloud::Global => &["login.microsoftonline.com"],
        Cloud::UsGov | Cloud::UsGovDod => &["login.microsoftonline.us"],
        Cloud::China => &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
    }
}

/// The resource that IMAP and SMTP belong to, for delegated access.
fn outlook(cloud: Cloud) -> &'static str {
    match cloud {
        // The one cloud whose two resources differ in name.
        Cloud::Global => "outlook.office.com",
        other => other.mail_host(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_know_their_urls_and_scopes() {
        let microsoft = |cloud, tenant: &str| ProviderConfig {
            preset: Preset::Microsoft,
            cloud,
            tenant: tenant.into(),
            ..ProviderConfig::default()
        };
        let table = [
            (Cloud::Global, "https://login.microsoftonline.com/t/", "https://outlook.office.com/", "office365.com"),
            (Cloud::UsGov, "https://login.microsoftonline.us/t/", "https://outlook.office365.us/", "office365.us"),
            (Cloud::UsGovDod, "https://login.microsoftonline.us/t/", "https://outlook-dod.office365.us/", "-dod."),
            (Cloud::China, "https://login.chinacloudapi.cn/t/", "https://partner.outlook.cn/", "partner.outlook.cn"),
        ];
        for (cloud, login, outlook, app) in table {
            let config = microsoft(cloud, "t");
            let urls = urls(&config);
            for url in [urls.authorization, urls.token, urls.device] {
                assert!(url.unwrap().starts_with(login));
            }
            // Discovery documents of China's cloud name an issuer on another host than the sign-in.
            let signer = if cloud == Cloud::China { "https://login.partner.microsoftonline.cn/t/" } else { login };
            assert!(issuer(&config).is(&format!("{signer}v2.0"), Some("t")), "{cloud:?}");
            let scopes = config.scopes(ScopeUse::Imap);
            let want = [format!("{outlook}IMAP.AccessAsUser.All"), format!("{outlook}SMTP.Send")];
            assert_eq!(scopes[..2], want);
            assert_eq!(scopes[2..], IDENTITY);
            let [scope] = &app_scopes(&config)[..] else { panic!() };
            assert!(scope.contains(app) && scope.ends_with("/.default"), "{scope}");
        }
        let google = ProviderConfig { preset: Preset::Google, ..ProviderConfig::default() };
        assert_eq!(google.scopes(ScopeUse::Imap).join(" "), "https://mail.google.com/ openid email");
        let graph = "openid offline_access User.Read Mail.Send Mail.ReadWrite";
        assert_eq!(microsoft(Cloud::Global, "common").scopes(ScopeUse::Graph).join(" "), graph);
        let own = ProviderConfig { scopes: Some(vec!["x".into()]), ..google };
        assert_eq!(own.scopes(ScopeUse::Imap), ["x"]);
    }
}
