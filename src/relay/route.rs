//! In which order the servers of a domain are tried. Pure: chance comes in as an argument.

/// No mail is offered to more servers than this in one attempt.
pub(super) const MOST_HOSTS: usize = 5;

/// The hosts of a domain, the preferred ones first, equal ones by chance (RFC 5321 section 5.1). Where we are one of
/// them, those that are not preferred to us are left out, since they would send the mail back to us; `None` when that
/// leaves nothing.
pub(super) fn order(hosts: &[(u16, String)], own: &str, mut chance: impl FnMut() -> u64) -> Option<Vec<String>> {
    let ours = hosts.iter().filter(|(_, host)| host.eq_ignore_ascii_case(own)).map(|(preference, _)| *preference).min();
    let mut left: Vec<(u16, u64, &String)> = hosts
        .iter()
        .filter(|(preference, _)| ours.is_none_or(|ours| *preference < ours))
        .map(|(preference, host)| (*preference, chance(), host))
        .collect();
    left.sort();
    left.truncate(MOST_HOSTS);
    (!left.is_empty()).then(|| left.into_iter().map(|(_, _, host)| host.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(hosts: &[(u16, &str)], own: &str, chances: &[u64]) -> Option<Vec<String>> {
        let hosts: Vec<(u16, String)> = hosts.iter().map(|(n, host)| (*n, (*host).to_owned())).collect();
        let mut chances = chances.iter().copied().cycle();
        order(&hosts, own, || chances.next().unwrap_or(0))
    }

    #[test]
    fn preferred_first_equal_by_chance_and_never_back_to_us() {
        let hosts = [(20, "c"), (10, "a"), (10, "b")];
        assert_eq!(ordered(&hosts, "x", &[0, 1, 2]).unwrap(), ["a", "b", "c"]);
        assert_eq!(ordered(&hosts, "x", &[0, 2, 1]).unwrap(), ["b", "a", "c"]);
        assert_eq!(ordered(&hosts, "C", &[0, 1, 2]).unwrap(), ["a", "b"]);
        assert_eq!(ordered(&hosts, "a", &[0]), None);
        let many: Vec<(u16, &str)> = (0..50).map(|n| (n, "h")).collect();
        assert_eq!(ordered(&many, "x", &[0]).unwrap().len(), MOST_HOSTS);
    }
}
