//! What is known of Microsoft and Google: hosts, paths, scopes.

use super::config::{Cloud, Preset, ProviderConfig, ScopeUse};

/// What is asked for beside access to mail: who signed in, and a refresh token.
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

/// The resource that IMAP and SMTP belong to, for delegated access.
fn outlook(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "outlook.office.com",
        Cloud::UsGov => "outlook.office365.us",
        Cloud::UsGovDod => "outlook-dod.office365.us",
        Cloud::China => "partner.outlook.cn",
    }
}
