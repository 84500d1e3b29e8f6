//! The parameters of MAIL and RCPT. Which of them a door offers is for the session to say.

use super::command::{CommandError, MailCommand, number};

/// The longest ENVID and ORCPT (RFC 3461 sections 4.4 and 4.2).
const ENVID: usize = 100;
const ORCPT: usize = 500;

/// What stands behind the path of MAIL.
pub(super) fn of_mail(text: &str) -> Result<MailCommand, CommandError> {
    let mut command = MailCommand::default();
    let (mut body, mut auth) = (false, false);
    for (name, value) in pairs(text) {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match value {
            Some(value) if is("SIZE") && command.size.is_none() => command.size = Some(number(value)?),
            Some(value) if is("BODY") && !body => {
                body = true;
                if !["7BIT", "8BITMIME"].iter().any(|known| value.eq_ignore_ascii_case(known)) {
                    return Err(CommandError::UnknownParameter);
                }
            }
            None if is("SMTPUTF8") && !command.smtputf8 => command.smtputf8 = true,
            Some(value) if is("RET") && command.ret.is_none() => {
                let known = ["FULL", "HDRS"].into_iter().find(|known| value.eq_ignore_ascii_case(known));
                command.ret = Some(known.ok_or(CommandError::BadParameter)?.to_owned());
            }
            Some(value) if is("ENVID") && command.envid.is_none() => command.envid = Some(xtext(value, ENVID)?),
            // Who wrote it may be said (RFC 4954 section 5); we believe the login alone.
            Some(value) if is("AUTH") && !auth => {
                auth = true;
                xtext(value, ORCPT)?;
            }
            _ if ["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"].iter().any(|known| is(known)) => {
                return Err(CommandError::BadParameter);
            }
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    Ok(command)
}

/// NOTIFY and ORCPT behind the path of RCPT.
pub(super) fn of_rcpt(text: &str) -> Result<(Option<String>, Option<String>), CommandError> {
    let (mut notify, mut orcpt) = (None, None);
    for (name, value) in pairs(text) {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match value {
            Some(value) if is("NOTIFY") && notify.is_none() => notify = Some(notify_words(value)?),
            Some(value) if is("ORCPT") && orcpt.is_none() => {
                let (kind, address) = value.split_once(';').ok_or(CommandError::BadParameter)?;
                let atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                if !atom || address.is_empty() {
                    return Err(CommandError::BadParameter);
                }
                xtext(address, ORCPT)?;
                orcpt = Some(value.to_owned());
            }
            _ if is("NOTIFY") || is("ORCPT") => return Err(CommandError::BadParameter),
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    Ok((notify, orcpt))
}

/// NEVER by itself, or some of the others (RFC 3461 section 4.1).
fn notify_words(value: &str) -> Result<String, CommandError> {
    let words: Vec<String> = value.split(',').map(str::to_ascii_uppercase).collect();
    let known = |word: &String| ["SUCCESS", "FAILURE", "DELAY"].contains(&word.as_str());
    let distinct = words.iter().enumerate().all(|(at, word)| !words[..at].contains(word));
    if words == ["NEVER"] || (distinct && words.iter().all(known)) {
        Ok(words.join(","))
    } else {
        Err(CommandError::BadParameter)
    }
}

/// Text in which `+` and two digits stand for what cannot be written (RFC 3461 section 4).
fn xtext(value: &str, longest: usize) -> Result<String, CommandError> {
    let bytes = value.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            |offset: usize| bytes.get(at + offset).is_some_and(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b));
        match bytes[at] {
            b'+' if hex(1) && hex(2) => at += 3,
            b'+' | b'=' => return Err(CommandError::BadParameter),
            byte if byte.is_ascii_graphic() => at += 1,
            _ => return Err(CommandError::BadParameter),
        }
    }
    if bytes.is_empty() || bytes.len() > longest { Err(CommandError::BadParameter) } else { Ok(value.to_owned()) }
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split_ascii_whitespace().map(|parameter| match parameter.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (parameter, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_parameters_are_taken_as_rfc_3461_writes_them() {
        let good = of_mail("RET=hdrs ENVID=QQ+2B314159 SIZE=3 AUTH=<>").unwrap();
        assert_eq!((good.ret.as_deref(), good.envid.as_deref()), (Some("HDRS"), Some("QQ+2B314159")));
        for wrong in ["RET=ALL", "RET", "ENVID=", "ENVID=a+b", "ENVID=a=b", "RET=FULL RET=FULL", "AUTH=a b=c"] {
            assert!(of_mail(wrong).is_err(), "{wrong}");
        }
        let got = of_rcpt("NOTIFY=success,failure ORCPT=rfc822;Bob+2B1@x.example").unwrap();
        assert_eq!(got, (Some("SUCCESS,FAILURE".into()), Some("rfc822;Bob+2B1@x.example".into())));
        for wrong in
            ["NOTIFY=NEVER,DELAY", "NOTIFY=DELAY,DELAY", "NOTIFY=", "ORCPT=x", "ORCPT=;x", "ORCPT=rfc822;", "X=1"]
        {
            assert!(of_rcpt(wrong).is_err(), "{wrong}");
        }
    }
}
