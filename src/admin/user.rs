//! The name of a local user, for traces that people read.
//!
//! It is looked up in passwd(5) alone and not by NSS: a directory service that hangs must not hold up an order, and a
//! user without a line there is shown by number. Must not know: who may do what.

use std::fs::File;
use std::io::{self, Read};

const PASSWD: &str = "/etc/passwd";

/// The most that is read of it.
const MOST: u64 = 1 << 20;

/// The longest name that is shown (useradd(8) makes none longer than 32).
const MAX_NAME: usize = 64;

/// `root (uid 0)`, or `uid 4711` where the number has no name.
pub(super) fn shown(uid: u32) -> String {
    match passwd().ok().as_deref().and_then(|text| name_in(text, uid)) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

fn passwd() -> io::Result<String> {
    let mut text = Vec::new();
    File::open(PASSWD)?.take(MOST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The name of the first line `name:password:uid:…` with this number, as getpwuid(3) finds it.
fn name_in(passwd: &str, uid: u32) -> Option<&str> {
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then_some(name)
    })?;
    let fit = !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(|c| c.is_ascii_graphic());
    fit.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_as_passwd_names_them() {
        let passwd = "# local\nroot:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\neve:x:1000:100::/:/bin/sh\n\
            +::::::\nhalf:x\n:x:7:7::/:\nbad\u{1b}[1m:x:8:8::/:\nlast:x:9:9";
        let table =
            [(0, Some("root")), (1000, Some("eve")), (9, Some("last")), (100, None), (7, None), (8, None), (5, None)];
        for (uid, want) in table {
            assert_eq!(name_in(passwd, uid), want, "{uid}");
        }
        assert_eq!(shown(u32::MAX), format!("uid {}", u32::MAX));
    }
}
